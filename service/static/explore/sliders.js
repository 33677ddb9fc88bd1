/** One slider per principal direction of the latents, or per latent where a model names no directions. */

import { call, post, tell } from "../common/api.js";
import { latest } from "../common/latest.js";
import { able, asking, fill, lackOf, manifestOf } from "../common/models.js";
import { gaussian, mulberry32, paint, readNpy, toPng } from "../common/pixels.js";

const NPY = "application/x-npy";
const FIRST = 12; // sliders that are shown at once
const REACH = 3; // deviations to both sides

export async function setUpSliders(pad, models) {
  const section = document.getElementById("turn");
  const [problem, select, lack] = [".problem", "select", ".lack"].map((what) => section.querySelector(what));
  const [picture, list, more, what] = ["turned", "sliders", "more-sliders", "turn-what"].map((id) =>
    document.getElementById(id),
  );
  const fitting = able(models, "decode").filter((model) => model.latent_dim > 2);
  if (!fitting.length) {
    lack.textContent = lackOf(models, "decodes three or more latents");
    lack.hidden = false;
    section.querySelector(".offered").hidden = true;
    return;
  }
  let [model, axes, base] = [null, null, []]; // base: the latents where all sliders stood when it was set
  let start = []; // where they stood
  let throws = 0;

  const decode = latest(async (signal) => {
    try {
      const response = await post("decode", { latent: latents() }, { query: asking(model), accept: NPY, signal });
      paint(picture, await readNpy(response));
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
  });

  const sliders = () => [...list.querySelectorAll("input")];

  /** base + sum over directions of (slider - start) spread direction. */
  function latents() {
    const z = [...base];
    sliders().forEach((slider, k) => {
      const length = (Number(slider.value) - start[k]) * axes.spread[k];
      axes.directions[k].forEach((value, i) => {
        z[i] += length * value;
      });
    });
    return z;
  }

  /** Puts the sliders where these latents are. What lies beyond the directions stays as it is. */
  function stand(z) {
    base = z;
    start = axes.directions.map((direction, k) => {
      const along = direction.reduce((sum, value, i) => sum + value * (z[i] - axes.mean[i]), 0);
      return axes.spread[k] > 0 ? along / axes.spread[k] : 0;
    });
    sliders().forEach((slider, k) => {
      slider.value = start[k];
      start[k] = Number(slider.value); // as it could be shown: the picture is that of `base` until one is turned
      tellValue(slider);
    });
    return decode();
  }

  async function choose() {
    model = fitting.find(({ name }) => name === select.value);
    axes = axesOf((await manifestOf(model)).latent);
    what.textContent = axes.isPrincipal
      ? `Each slider moves along one principal direction of the ${model.latent_dim} latents of ${model.name}, the strongest first, in standard deviations of the training images.`
      : `Each slider sets one of the ${model.latent_dim} latents of ${model.name}, in standard deviations of the training images.`;
    list.replaceChildren(...axes.directions.map((_, k) => rowOf(k, axes.isPrincipal, decode)));
    more.hidden = axes.directions.length <= FIRST;
    more.textContent = `${axes.directions.length - FIRST} more`;
    await stand([...axes.mean]);
  }

  more.addEventListener("click", () => {
    for (const row of list.children) row.hidden = false;
    more.hidden = true;
    list.children[FIRST].querySelector("input").focus();
  });
  document.getElementById("to-mean").addEventListener("click", () => stand([...axes.mean]));
  document.getElementById("at-random").addEventListener("click", () => {
    throws += 1;
    const random = mulberry32(throws);
    const z = [...axes.mean];
    axes.directions.forEach((direction, k) => {
      const length = axes.spread[k] * gaussian(random);
      direction.forEach((value, i) => {
        z[i] += length * value;
      });
    });
    stand(z);
  });
  document.getElementById("from-image").addEventListener("click", async () => {
    try {
      const options = { query: asking(model), body: await toPng(pad.image), type: "image/png" };
      const { latent } = await (await call("encode", { ...options, accept: "application/json" })).json();
      await stand(latent);
    } catch (error) {
      tell(problem, error);
    }
  });
  select.addEventListener("change", choose);
  fill(select, fitting);
  await choose();
}

/** The principal directions, or the latents themselves. */
function axesOf({ dim, mean, std, directions = [], spread = [] }) {
  if (directions.length) return { mean, directions, spread, isPrincipal: true };
  const own = Array.from({ length: dim }, (_, i) => Array.from({ length: dim }, (__, j) => Number(i === j)));
  return { mean, directions: own, spread: std, isPrincipal: false };
}

function rowOf(k, isPrincipal, decode) {
  const row = document.createElement("label");
  row.className = "slider";
  row.hidden = k >= FIRST;
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: -REACH, max: REACH, step: 0.05, value: 0 });
  slider.addEventListener("input", () => {
    tellValue(slider);
    decode();
  });
  slider.addEventListener("dblclick", () => {
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
  });
  row.append(`${isPrincipal ? "Direction" : "Latent"} ${k + 1}`, slider, document.createElement("output"));
  return row;
}

function tellValue(slider) {
  slider.nextElementSibling.textContent = Number(slider.value).toFixed(2);
}
