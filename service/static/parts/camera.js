/** The camera as a source: a frame a second is judged, and one can be kept. */

import { Problem, tell } from "../common/api.js";
import { latest } from "../common/latest.js";
import { figure } from "../common/verdict.js";
import { heatMapOf, verdictOf } from "./judge.js";

const EVERY_MS = 1000;

/**
 * @param {() => {model: object?, calibration: object, step: object, ignore: File?}} context
 * @param {{propose: (frame: HTMLCanvasElement) => Promise<void>, keep: (file: File) => void}} actions
 */
export function setUpCamera(context, { propose, keep }) {
  const root = document.getElementById("part-camera");
  const [video, heat, verdict, said, problem] = ["video", ".heat", ".big-verdict", ".said", ".problem"].map((what) => root.querySelector(what));
  const open = document.getElementById("camera-open");
  let stream = null;
  let timer = null;
  let frame = null;
  let isFirst = true;

  const judge = latest(async (signal) => {
    const { model, calibration, step, ignore } = context();
    if (!model || !step || !frame) return;
    const options = { rate: step.k === null ? undefined : step.rate, ignore, signal };
    try {
      const [answer, blob] = await Promise.all([verdictOf(model, frame, options), heatMapOf(model, frame, options)]);
      signal.throwIfAborted();
      const isUnusual = answer.score >= step.threshold;
      verdict.textContent = isUnusual ? "Unusual" : "Normal";
      verdict.dataset.kind = isUnusual ? "unusual" : "normal";
      said.textContent = `${calibration.say(answer.score)}. Score ${figure(answer.score)}, limit ${figure(step.threshold)}, by ${answer.by}. Frame of ${new Date().toLocaleTimeString()}.`;
      URL.revokeObjectURL(heat.src);
      heat.src = URL.createObjectURL(blob);
      tell(problem, null);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      tell(problem, error);
    }
  });

  async function grab() {
    if (!video.videoWidth) return;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    if (isFirst) await propose(canvas);
    isFirst = false;
    judge();
  }

  async function start() {
    try {
      if (!navigator.mediaDevices) throw new Problem("No camera", "browsers allow it only on https or localhost");
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      root.hidden = false;
      tell(problem, error instanceof Problem ? error : new Problem("No camera", error.message));
      return;
    }
    tell(problem, null);
    video.srcObject = stream;
    root.hidden = false;
    open.hidden = true;
    await video.play();
    timer = setInterval(grab, EVERY_MS);
  }

  function stop() {
    clearInterval(timer);
    judge.stop();
    for (const track of stream?.getTracks() ?? []) track.stop();
    [stream, frame, isFirst] = [null, null, true];
    heat.removeAttribute("src");
    verdict.textContent = said.textContent = "";
    root.hidden = true;
    open.hidden = false;
  }

  open.addEventListener("click", start);
  document.getElementById("camera-stop").addEventListener("click", stop);
  document.getElementById("camera-keep").addEventListener("click", () => {
    if (frame) keep(new File([frame], `frame ${new Date().toLocaleTimeString()}.jpg`, { type: "image/jpeg" }));
  });
  addEventListener("hashchange", () => {
    if (root.closest(".tab").hidden && stream) stop(); // nobody looks
  });
  return { refresh: () => stream && judge.fresh() };
}
