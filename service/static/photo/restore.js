/** What the service is asked to make of one photograph. */

import { job } from "../common/job.js";
import { transfer } from "../common/transfer.js";

const STEPS_BY_WHAT = { denoise: ["denoise"], enhance: ["enhance"], both: ["denoise", "enhance"] };
const LARGE = 1_000_000; // pixels: smaller ones are done before anybody has read how far they are
const SHOWABLE = ["image/png", "image/jpeg", "image/webp"]; // formats of the service that every browser shows

/** The format in which a result is first asked for: that of the file, or PNG where a browser could not show it. */
export function firstType(file) {
  return SHOWABLE.includes(file.type) ? file.type : "image/png";
}

/**
 * Denoises, enlarges, or both, one after another. Between the two it is PNG, so that nothing is lost.
 *
 * @param {Blob} file As it was opened; its bytes are sent as they are.
 * @param {object} settings As {@link readSettings} gives them.
 * @param {{type: string, quality: number, pixels?: number, signal: AbortSignal, onProgress: Function}} options
 *     `pixels` is how many there are, if that is known; `onProgress` is called with the step's name, its phase, its share
 *     and counts, as in {@link job}.
 * @returns {Promise<{blob: Blob, type: string, quality: number, said: string}>} `said` names who made it, and how.
 */
export async function restore(file, settings, { type, quality, pixels = Infinity, signal, onProgress }) {
  const steps = STEPS_BY_WHAT[settings.what];
  const started = performance.now();
  const parts = [];
  const ask = pixels > LARGE || settings.isThorough ? job : transfer;
  let body = file;
  for (const [i, step] of steps.entries()) {
    const isLast = i === steps.length - 1;
    const { blob, header } = await ask(step, {
      query: queryOf(step, settings, isLast && type !== "image/png" && type !== "image/tiff" ? quality : undefined),
      body,
      accept: isLast ? type : "image/png",
      signal,
      onProgress: (...how) => onProgress(step, ...how),
    });
    const part = saidOf(step, settings, header);
    parts.push(i === 0 ? part[0].toUpperCase() + part.slice(1) : part);
    body = blob;
  }
  const seconds = (performance.now() - started) / 1000;
  return { blob: body, type, quality, said: `${parts.join(", then ")}. ${seconds.toFixed(1)} s.` };
}

/** A picture that the browser cannot show, as PNG: a denoised one, of which nothing is taken. */
export async function toShowable(file, settings, signal) {
  const query = settings.denoiser ? { model: settings.denoiser, strength: 0 } : { strength: 0 };
  return (await transfer("denoise", { query, body: file, accept: "image/png", signal })).blob;
}

function queryOf(step, settings, quality) {
  const query = {};
  const model = step === "denoise" ? settings.denoiser : settings.enhancer;
  if (model) query.model = model;
  if (step === "denoise") {
    if (settings.sigma !== undefined) query.sigma = settings.sigma;
    if (settings.strength !== 1) query.strength = settings.strength;
  }
  if (settings.isThorough) query.thorough = true;
  if (settings.keepsMetadata) query.metadata = "keep";
  if (quality !== undefined) query.quality = quality;
  return query;
}

function saidOf(step, settings, header) {
  const label = header("X-Model");
  if (step === "enhance") return `enlarged by ${label}`;
  const sigma = header("X-Sigma");
  const noise = sigma === null ? "" : `, noise ${settings.sigma === undefined ? "estimated as" : "set to"} ${Number(Number(sigma).toFixed(1))} of 255`;
  const strength = settings.strength === 1 ? "" : `, strength ${settings.strength}`;
  return `denoised by ${label}${noise}${strength}${settings.isThorough ? ", thorough" : ""}`;
}
