/** The tab "Parts": a folder of pictures, the most unusual first. */

import { tell } from "../common/api.js";
import { isImage, onFiles, save } from "../common/files.js";
import { lookAt } from "../common/fitting.js";
import { lackOf, liveModels, manifestOf } from "../common/models.js";
import { toPng } from "../common/pixels.js";
import { figure, percent } from "../common/verdict.js";
import { Calibration } from "./calibration.js";
import { setUpCamera } from "./camera.js";
import { setUpChoice } from "./choose.js";
import { complete, setUpDetail } from "./detail.js";
import { setUpFeedback } from "./feedback.js";
import { kindOf, setUpGallery, sorted } from "./gallery.js";
import { drawHistogram } from "./histogram.js";
import { setUpIgnore } from "./ignore.js";
import { eachOf, verdictOf } from "./judge.js";
import { toCsv, toReport } from "./report.js";
import { thumbOf } from "./thumb.js";
import { setUpTraining } from "./training.js";

/**
 * A picture and what became of it.
 *
 * @typedef {{number: number, file: File, name: string, url: string, thumb: Blob?, thumbUrl: string?, look: object?,
 *     isShowable: boolean?, answer: object?, error: Error?, detail: object?, opinion: string?}} Part
 */

export async function setUp(models) {
  const tab = document.getElementById("parts");
  const [bench, progress, stop, problem, lack] = ["bench", "progress", "stop", "problem", "lack"].map((what) =>
    document.getElementById(`part-${what}`),
  );
  const [slider, histogram, said, ownButton] = ["rate", "histogram", "rate-said", "rate-own"].map((what) => document.getElementById(`part-${what}`));
  let parts = [];
  let current = null;
  let calibration = null;
  let step = null; // of the calibration: the rate that is chosen, with its limit
  let judging = new AbortController();
  let opened = 0;

  const detail = setUpDetail();
  const feedback = setUpFeedback();
  const gallery = setUpGallery(select);
  const ignore = setUpIgnore(judgeAgain);
  const choice = setUpChoice(models, change);
  if (!choice.models.length) {
    lack.textContent = lackOf(models, "finds anomalies");
    lack.hidden = false;
    for (const part of tab.querySelectorAll(".drop, .part-model-panel")) part.hidden = true;
    return;
  }
  const training = setUpTraining(judgeWith);
  const context = () => ({ model: choice.chosen(), calibration, step, ignore: ignore.mask(), parts });
  const camera = setUpCamera(context, { propose: async (frame) => choice.propose(await lookAt(frame), await toPng(frame)), keep: (file) => add([file]) });
  await change(choice.chosen());
  onFiles(tab, add);

  /** Another model judges: what the one before said is gone at once. */
  async function change(model) {
    judging.abort();
    for (const part of parts) forget(part);
    [calibration, step] = [null, null];
    training.show(model);
    ignore.show(false);
    draw();
    if (!model) return;
    try {
      const { anomaly } = await manifestOf(model);
      if (model !== choice.chosen()) return;
      calibration = new Calibration(anomaly);
      step = calibration.own;
      slider.max = calibration.steps.length - 1;
      slider.value = calibration.ownIndex;
      ignore.show(Boolean(anomaly.takes_nan));
      tell(problem, null);
      judgeAll();
    } catch (error) {
      tell(problem, error);
    }
  }

  /** Another mask counts. */
  function judgeAgain() {
    judging.abort();
    for (const part of parts) forget(part);
    judgeAll();
    camera.refresh();
  }

  /** The newest version of a model judges from now on; false if the service has not loaded it yet. */
  async function judgeWith({ model: name, version }) {
    const live = (await liveModels()).find((one) => one.name === name && one.version >= version);
    if (live) choice.renew(live);
    return Boolean(live);
  }

  function forget(part) {
    if (part.detail) URL.revokeObjectURL(part.detail.url);
    Object.assign(part, { answer: null, error: null, detail: null });
  }

  async function add(files) {
    const added = files.filter(isImage).map((file) => ({
      number: (opened += 1),
      file,
      name: file.webkitRelativePath || file.name || "pasted.png",
      url: URL.createObjectURL(file),
    }));
    if (!added.length) {
      progress.textContent = "None of these files is a picture.";
      return;
    }
    const isFirst = !parts.length;
    parts.push(...added);
    if (isFirst) await choice.propose(await lookAt(added[0].file), added[0].file);
    draw();
    judgeAll();
  }

  /** Judges what has not been judged, a few at a time, and shows how far it is. */
  async function judgeAll() {
    judging.abort();
    const own = new AbortController();
    judging = own;
    const [asked, { signal }] = [context(), own];
    const waiting = parts.filter(({ answer, error }) => !answer && !error);
    if (!waiting.length || !calibration) return draw();
    stop.hidden = false;
    await eachOf(
      waiting,
      async (part) => {
        try {
          part.thumb ??= await thumbOf(part.file);
          part.isShowable = Boolean(part.thumb);
          if (part.thumb) part.thumbUrl ??= URL.createObjectURL(part.thumb);
          const answer = await verdictOf(asked.model, part.file, { ignore: asked.ignore, signal });
          if (signal.aborted) return;
          part.answer = answer;
          part.look ??= await lookAt(part.file);
          if (!part.isShowable) await showHeatMap(part, asked, signal);
        } catch (error) {
          if (!signal.aborted) part.error = error;
        }
        if (!signal.aborted) draw();
      },
      signal,
    );
    if (signal.aborted) return undefined;
    stop.hidden = true;
    if (!current && parts.length) select(sorted(parts)[0]);
    return draw();
  }

  /** A format that the browser cannot show is seen by its heat map. */
  async function showHeatMap(part, asked, signal) {
    await complete(part, { ...asked, step }, signal);
    part.thumbUrl = URL.createObjectURL((part.thumb = await thumbOf(part.detail.blob)));
  }

  function draw() {
    bench.hidden = !parts.length;
    const scores = parts.filter(({ answer }) => answer).map(({ answer }) => answer.score);
    const done = parts.filter(({ answer, error }) => answer || error).length;
    progress.textContent = parts.length ? `${done} of ${parts.length} pictures judged${choice.chosen() ? "" : ": choose a model"}` : "";
    document.getElementById("part-line").hidden = !calibration;
    if (calibration) {
      const [low, high] = drawHistogram(histogram, calibration.scores, scores, step.threshold);
      document.getElementById("part-low").textContent = figure(low);
      document.getElementById("part-high").textContent = figure(high);
      const unusual = scores.filter((score) => score >= step.threshold).length;
      const least = step.k === 1 ? `, the lowest rate that ${calibration.n} good pictures can promise` : "";
      said.textContent = `About ${percent(step.rate)} of good pictures would be flagged${least}: limit ${figure(step.threshold)}. Here ${unusual} of ${scores.length} are flagged.`;
      slider.setAttribute("aria-valuetext", percent(step.rate));
      ownButton.hidden = step === calibration.own;
    }
    gallery.draw(parts, current, step?.threshold);
    detail.show(current, context());
    feedback.show(current, choice.chosen());
  }

  function select(part) {
    current = part;
    draw();
    if (matchMedia("(max-width: 52rem)").matches && document.activeElement?.closest("#gallery")) document.getElementById("part-detail").scrollIntoView();
  }

  slider.addEventListener("input", () => {
    step = calibration.steps[Number(slider.value)];
    draw();
    camera.refresh();
  });
  ownButton.addEventListener("click", () => {
    step = calibration.own;
    slider.value = calibration.ownIndex;
    draw();
    camera.refresh();
  });
  stop.addEventListener("click", () => {
    judging.abort();
    stop.hidden = true;
    draw();
  });
  document.getElementById("part-clear").addEventListener("click", () => {
    judging.abort();
    stop.hidden = true;
    for (const part of parts) {
      forget(part);
      for (const url of [part.url, part.thumbUrl]) if (url) URL.revokeObjectURL(url);
    }
    [parts, current] = [[], null];
    draw();
  });

  /** Regions of what is unusual at the chosen rate, then the file. */
  async function exported(make, name) {
    const asked = context();
    const unusual = parts.filter((part) => kindOf(part, asked.step.threshold) === "unusual");
    let done = 0;
    try {
      await eachOf(
        unusual,
        async (part) => {
          await complete(part, asked);
          done += 1;
          progress.textContent = `Regions of ${done} of ${unusual.length} unusual pictures`;
        },
        new AbortController().signal,
      );
      save(await make(parts, { ...asked, histogram }), name);
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
    draw();
  }

  document.getElementById("part-csv").addEventListener("click", () => exported(toCsv, "parts.csv"));
  document.getElementById("part-report").addEventListener("click", () => exported(toReport, "parts.html"));
}
