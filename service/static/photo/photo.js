/** The tab "Photo": photographs are cleaned or enlarged in full size, one after another. */

import { tell } from "../common/api.js";
import { isImage, onFiles } from "../common/files.js";
import { setUpCompare } from "./compare.js";
import { setUpDownload } from "./download.js";
import { firstType, restore, toShowable } from "./restore.js";
import { setUpSettings } from "./settings.js";
import { setUpShelf } from "./shelf.js";

const QUALITY = 95; // of the result that is shown first; the download may have another
const SAID_BY_STEP = { denoise: "Denoise", enhance: "Enlarge" };
const SAID_BY_PHASE = {
  upload: (share) => `uploading ${Math.round(100 * share)} %`,
  queue: (share, { before }) => (before ? `${before} before it in the queue` : "next in the queue"),
  tiles: (share, { done, of }) => `${done} of ${of} tiles done`,
  work: () => "processing",
  download: (share) => `receiving${share === undefined ? "" : ` ${Math.round(100 * share)} %`}`,
};

/**
 * A photograph and what became of it.
 *
 * @typedef {{file: File, name: string, url: string, isShowable: boolean?, pixels: number?, state: "waiting" | "running" | "done" |
 *     "failed" | "cancelled", said: string, progress: number?, error: Error?, result: object?, resultUrl: string}} Photo
 */

export async function setUp(models) {
  const tab = document.getElementById("photo");
  const [bench, name, said, progress, problem, cancel, again] = ["bench", "name", "said", "progress", "problem", "cancel", "again"].map(
    (what) => document.getElementById(`photo-${what}`),
  );
  const compare = setUpCompare();
  let photos = [];
  let current = null;
  let running = null; // the photograph that is being made, and how to stop it

  const settings = await setUpSettings(models, () => {
    photos.filter(({ state }) => state !== "cancelled").forEach(reset);
    advance();
  });
  const shelf = setUpShelf({ select, remove });
  const download = setUpDownload(() => settings.read(), () => photos, () => current);
  if (settings.lack) {
    const lack = document.getElementById("photo-lack");
    lack.textContent = settings.lack;
    lack.hidden = false;
    for (const part of tab.querySelectorAll(".drop, form")) part.hidden = true;
    return;
  }

  function add(files) {
    const added = files.filter(isImage).map((file) => ({
      file,
      name: file.name || "pasted.png",
      url: URL.createObjectURL(file),
      state: "waiting",
    }));
    if (!added.length) {
      tell(problem, null);
      said.textContent = "None of these files is a picture.";
      return;
    }
    photos.push(...added);
    bench.hidden = false;
    select(added[0]);
    advance();
  }

  function select(photo) {
    current = photo;
    compare.clear();
    showCurrent();
  }

  /** Shows the chosen photograph as far as it is. What belongs to another is gone at once. */
  async function showCurrent() {
    shelf.draw(photos, current);
    download.draw();
    if (!current) {
      compare.clear();
      bench.hidden = true;
      return;
    }
    const photo = current;
    name.textContent = photo.name;
    said.textContent = photo.state === "waiting" ? "Waiting" : (photo.said ?? "");
    progress.hidden = photo.state !== "running";
    if (photo.progress === undefined) progress.removeAttribute("value");
    else progress.value = photo.progress;
    tell(problem, photo.error ?? null);
    cancel.hidden = !["waiting", "running"].includes(photo.state);
    again.hidden = !["failed", "cancelled"].includes(photo.state);
    await compare.show(photo.isShowable === false ? undefined : photo.url, photo.resultUrl);
  }

  function reset(photo) {
    if (running?.photo === photo) running.controller.abort();
    if (photo.resultUrl) URL.revokeObjectURL(photo.resultUrl);
    Object.assign(photo, { state: "waiting", said: "", error: null, result: null, resultUrl: undefined, progress: undefined });
  }

  /** Makes the next photograph that waits: the chosen one first. */
  async function advance() {
    showCurrent();
    if (running) return;
    const photo = current?.state === "waiting" ? current : photos.find(({ state }) => state === "waiting");
    if (!photo) return;
    const controller = new AbortController();
    running = { photo, controller };
    photo.state = "running";
    try {
      await make(photo, controller.signal);
      photo.state = "done";
    } catch (error) {
      if (!controller.signal.aborted) Object.assign(photo, { state: "failed", said: "", error });
    }
    running = null;
    advance();
  }

  async function make(photo, signal) {
    const asked = settings.read();
    const tellOf = (text, share) => {
      if (signal.aborted) return;
      Object.assign(photo, { said: text, progress: share });
      if (photo === current) showCurrent();
    };
    if (photo.isShowable === undefined) {
      photo.pixels = await pixelsOf(photo.url);
      photo.isShowable = photo.pixels !== undefined;
      if (!photo.isShowable) {
        tellOf("The browser cannot show this format; requesting a preview from the service");
        const shown = await toShowable(photo.file, asked, signal);
        URL.revokeObjectURL(photo.url);
        Object.assign(photo, { url: URL.createObjectURL(shown), isShowable: true });
      }
    }
    const started = Date.now();
    const result = await restore(photo.file, asked, {
      type: firstType(photo.file),
      quality: QUALITY,
      pixels: photo.pixels,
      signal,
      onProgress(step, phase, share, counts) {
        const since = phase === "work" || phase === "tiles" ? `, since ${new Date(started).toLocaleTimeString()}` : "";
        tellOf(`${SAID_BY_STEP[step]}: ${SAID_BY_PHASE[phase](share, counts)}${since}`, share);
      },
    });
    signal.throwIfAborted();
    Object.assign(photo, { result, resultUrl: URL.createObjectURL(result.blob), said: result.said });
  }

  function remove(gone) {
    for (const photo of gone) {
      reset(photo);
      URL.revokeObjectURL(photo.url);
    }
    photos = photos.filter((photo) => !gone.includes(photo));
    if (gone.includes(current)) select(photos[0] ?? null);
    else showCurrent();
  }

  cancel.addEventListener("click", () => {
    if (running?.photo === current) running.controller.abort();
    Object.assign(current, { state: "cancelled", said: "Cancelled", progress: undefined });
    showCurrent();
  });
  again.addEventListener("click", () => {
    reset(current);
    advance();
  });
  document.getElementById("shelf-clear").addEventListener("click", () => remove([...photos]));
  onFiles(tab, add);
}

/** How many pixels the picture at an address has; undefined where the browser cannot show it. */
async function pixelsOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return image.naturalWidth * image.naturalHeight;
  } catch {
    return undefined;
  }
}
