/** Results as files: one, or all as a ZIP, in the format that is chosen. */

import { tell } from "../common/api.js";
import { save } from "../common/files.js";
import { distinct, zip } from "../common/zip.js";
import { firstType, restore } from "./restore.js";

const EXTENSION_BY_TYPE = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/tiff": "tif" };
const SUFFIX_BY_WHAT = { denoise: "denoised", enhance: "enlarged", both: "denoised-enlarged" };
const LOSSY = ["image/jpeg", "image/webp"];

/**
 * @param {() => object} readSettings
 * @param {() => object[]} allPhotos
 * @param {() => object?} currentPhoto
 */
export function setUpDownload(readSettings, allPhotos, currentPhoto) {
  const form = document.getElementById("photo-download");
  const { format, quality, zip: all } = form.elements;
  const problem = document.getElementById("photo-problem");
  const said = form.querySelector(".said");
  const [button] = form.querySelectorAll("button:not([type])");

  const wantedType = (file) => format.value || (file.type in EXTENSION_BY_TYPE ? file.type : firstType(file));

  /** The result in the format that is wanted: as it is, or made once more, since only the service writes pictures. */
  async function fileOf(photo) {
    const type = wantedType(photo.file);
    let { blob } = photo.result;
    const isSame = photo.result.type === type && (!LOSSY.includes(type) || photo.result.quality === quality.valueAsNumber);
    if (!isSame) {
      const options = { type, quality: quality.valueAsNumber, signal: new AbortController().signal, onProgress: () => undefined };
      said.textContent = `Requesting ${photo.name} in this format from the service`;
      ({ blob } = await restore(photo.file, readSettings(), options));
    }
    const stem = photo.name.replace(/\.[^.]*$/, "");
    return { name: `${stem}-${SUFFIX_BY_WHAT[readSettings().what]}.${EXTENSION_BY_TYPE[type]}`, blob };
  }

  async function busy(work) {
    button.disabled = true;
    all.disabled = true;
    try {
      await work();
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
    said.textContent = "";
    draw();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(async () => {
      const { blob, name } = await fileOf(currentPhoto());
      save(blob, name);
    });
  });
  all.addEventListener("click", () =>
    busy(async () => {
      const files = [];
      for (const photo of allPhotos().filter(({ result }) => result)) files.push(await fileOf(photo));
      const names = distinct(files.map(({ name }) => name));
      save(await zip(files.map(({ blob }, i) => ({ name: names[i], blob }))), "photographs.zip");
    }),
  );
  format.addEventListener("change", draw);

  function draw() {
    const done = allPhotos().filter(({ result }) => result);
    button.disabled = !currentPhoto()?.result;
    all.hidden = allPhotos().length < 2;
    all.disabled = done.length < 1;
    all.textContent = done.length === allPhotos().length ? "All as ZIP" : `${done.length} of ${allPhotos().length} as ZIP`;
    const type = currentPhoto() ? wantedType(currentPhoto().file) : format.value;
    quality.parentElement.hidden = !LOSSY.includes(type);
  }

  return { draw };
}
