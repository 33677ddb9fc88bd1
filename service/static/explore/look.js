/** The image noisy, denoised, reconstructed, and judged: all of it live. */

import { call, post, tell } from "../common/api.js";
import { latest } from "../common/latest.js";
import { bestFor, lookAt, misfit } from "../common/fitting.js";
import { able, asking, fill, labelOf, lackOf, manifestOf } from "../common/models.js";
import { figure, rankOf } from "../common/verdict.js";
import { pen, psnrDb, readImage, show, toPng, withNoise } from "../common/pixels.js";

const LARGE = 64; // pixels: a larger picture goes to the model for photographs
const [NOISE, NOISE_OF_LARGE] = ["100", "25"]; // until it is chosen: digits are shown more than pictures

export function setUpLook(pad, models) {
  const [noise, value, haze, shown] = ["noise", "noise-value", "haze"]
    .map((id) => document.getElementById(id))
    .concat(document.querySelector("#noisy canvas"));
  const denoised = setUpCard("denoised", able(models, "denoise"), lackOf(models, "denoises"), denoise);
  const rebuilt = setUpCard("rebuilt", able(models, "encode", "decode"), lackOf(models, "encodes and decodes"), rebuild);
  const judged = setUpCard("judged", able(models, "anomaly"), lackOf(models, "finds anomalies"), judge);
  let [seed, isNoiseChosen] = [1, false];

  /** Puts noise on the image and has it removed. */
  const spoil = latest(async (_, isOther) => {
    const [clean, sigma] = [pad.image, Number(noise.value)];
    value.textContent = noise.value;
    const perSigma = await hazeOf(denoised);
    haze.parentElement.hidden = perSigma === 0;
    const noisy = withNoise(clean, { sigma, mean: haze.checked ? perSigma * sigma : 0, seed });
    [shown.width, shown.height] = [noisy.width, noisy.height];
    pen(shown).drawImage(noisy, 0, 0);
    const db = psnrDb(clean, noisy); // infinite before the first digit is drawn
    document.querySelector("#noisy .said").textContent =
      sigma > 0 && Number.isFinite(db) ? `PSNR ${db.toFixed(1)} dB` : "No noise";
    smooth(shown, noisy.width);
    const sent = { clean, sigma, file: await toPng(noisy) };
    (isOther ? denoised.ask.fresh : denoised.ask)(sent);
  });

  const lookAtIt = latest(async (_, isOther) => {
    const sent = { clean: pad.image, file: await toPng(pad.image), look: await lookAt(pad.image) };
    if (isOther && !judged.isChosen) judged.select.value = (bestFor(judged.models, sent.look)[0] ?? judged.models[0])?.name ?? "";
    for (const { ask } of [rebuilt, judged]) (isOther ? ask.fresh : ask)(sent);
  });

  /** The model for photographs is for pictures, the one that also encodes is for what it was trained on. */
  function suit() {
    const isLarge = Math.max(pad.image.width, pad.image.height) > LARGE;
    if (!isNoiseChosen) noise.value = isLarge ? NOISE_OF_LARGE : NOISE;
    if (denoised.isChosen || !denoised.models.length) return;
    const same = denoised.models.find((model) => model.name === rebuilt.select.value);
    denoised.select.value = ((isLarge ? null : same) ?? denoised.models[0]).name;
  }

  function look(isOther) {
    suit();
    if (isOther) for (const card of [denoised, rebuilt, judged]) card.clear();
    spoil(isOther);
    lookAtIt(isOther);
  }

  pad.onChange.push(look);
  noise.addEventListener("input", () => {
    isNoiseChosen = true;
    spoil(false);
  });
  haze.addEventListener("change", () => spoil(false));
  document.getElementById("reroll").addEventListener("click", () => {
    seed += 1;
    spoil(false);
  });
  denoised.select.addEventListener("change", () => {
    denoised.isChosen = true;
    denoised.clear();
    spoil(true);
  });
  for (const card of [rebuilt, judged]) {
    card.select.addEventListener("change", () => {
      card.isChosen = true;
      card.clear();
      lookAtIt(true);
    });
  }
  look(true);
}

/** How much grey the training noise of a denoiser adds, per standard deviation; 0 where its recipe says nothing. */
async function hazeOf({ models, select }) {
  const model = models.find(({ name }) => name === select.value);
  if (!model) return 0;
  try {
    const { mean = 0, sigma = 1 } = (await manifestOf(model)).provenance.config.corruption?.options ?? {};
    return mean > 0 && sigma > 0 ? mean / sigma : 0;
  } catch {
    return 0; // the card itself will tell what is wrong
  }
}

function setUpCard(id, models, lack, work) {
  const figure = document.getElementById(id);
  const [img, said, problem, select] = ["img", ".said", ".problem", "select"].map((what) => figure.querySelector(what));
  fill(select, models);
  if (!models.length) {
    said.textContent = lack;
    for (const part of [img, select.parentElement, figure.querySelector(".neck")]) if (part) part.hidden = true;
    return { models, select, clear: () => undefined, ask: latest(async () => undefined) };
  }
  const ask = latest(async (signal, sent) => {
    figure.setAttribute("aria-busy", "true");
    try {
      const model = models.find(({ name }) => name === select.value);
      const result = await work({ figure, model, signal, ...sent });
      signal.throwIfAborted();
      show(img, result.blob);
      smooth(img, sent.clean.width);
      said.textContent = result.said;
      tell(problem, null);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      said.textContent = "";
      tell(problem, error);
    } finally {
      figure.removeAttribute("aria-busy");
    }
  });

  /** Takes the result away: it belongs to an image that is no longer there. */
  function clear() {
    ask.stop();
    img.removeAttribute("src");
    said.textContent = "";
    tell(problem, null);
  }

  return { models, select, ask, clear };
}

async function denoise({ model, signal, file, clean, sigma }) {
  const response = await call("denoise", { query: asking(model), body: file, type: "image/png", signal });
  const blob = await response.blob();
  const found = response.headers.get("X-Sigma");
  const guess = found ? `, which estimated the noise at ${Number(found).toFixed(0)}` : "";
  if (sigma === 0) return { blob, said: `By ${labelOf(model)}${guess}` };
  const gained = psnrDb(clean, await readImage(blob));
  return { blob, said: `PSNR ${gained.toFixed(1)} dB, by ${labelOf(model)}${guess}` };
}

async function rebuild({ figure, model, signal, file }) {
  const encoded = await call("encode", { query: asking(model), body: file, type: "image/png", signal });
  const answer = await encoded.json();
  const [decoded, manifest] = await Promise.all([
    post("decode", answer, { query: asking(model), signal }),
    manifestOf(model),
  ]);
  drawNeck(figure.querySelector(".neck"), answer.latent, manifest.latent);
  const pixels = manifest.input.height * manifest.input.width * manifest.input.channels;
  const size = answer.latent.length;
  return { blob: await decoded.blob(), said: `From ${size} numbers instead of ${pixels}, by ${labelOf(model)}` };
}

async function judge({ model, signal, file, look }) {
  const options = { query: asking(model), body: file, type: "image/png", signal };
  const [picture, answer] = await Promise.all([
    call("anomaly", { ...options, accept: "image/png" }),
    call("anomaly", { ...options, accept: "application/json" }),
  ]);
  const verdict = await answer.json();
  const blob = await picture.blob();
  const limits = `Score ${figure(verdict.score)}, limit ${figure(verdict.threshold)}, by ${labelOf(model)}`;
  const why = misfit(model, look);
  const doubt = why ? ` This result is unreliable: ${why}.` : "";
  return { blob, said: `${verdict.is_anomalous ? "Unusual" : "Normal"}. ${rankOf(verdict)}. ${limits}.${doubt}` };
}

/** The latents as bars, in units of their deviations over the training images. */
function drawNeck(canvas, latent, { mean, std }) {
  const width = Math.max(latent.length * 6, 64);
  canvas.width = width;
  const context = pen(canvas);
  const middle = canvas.height / 2;
  context.fillStyle = getComputedStyle(canvas).color;
  latent.forEach((value, i) => {
    const units = std[i] > 0 ? (value - mean[i]) / std[i] : 0;
    const length = Math.max(-1, Math.min(1, units / 3)) * (middle - 1);
    context.fillRect((i * width) / latent.length + 1, middle, width / latent.length - 2, -length || 1);
  });
  canvas.ariaLabel = `${latent.length} latents, in standard deviations from their mean between -3 and 3`;
}

/** Few pixels are shown as squares, many as a picture. */
function smooth(element, width) {
  element.classList.toggle("coarse", width <= 2 * LARGE);
}
