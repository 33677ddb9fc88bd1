/** New images out of a model's prior. */

import { post, tell } from "../common/api.js";
import { able, asking, fill, lackOf, manifestOf } from "../common/models.js";
import { blank, paint, readNpy } from "../common/pixels.js";

export async function setUpGenerate(pad, models) {
  const section = document.getElementById("draw");
  const form = section.querySelector("form");
  const [said, problem, lack] = [".said", ".problem", ".lack"].map((what) => section.querySelector(what));
  const fitting = able(models, "generate");
  if (!fitting.length) {
    lack.textContent = lackOf(models, "can generate");
    lack.hidden = false;
    form.hidden = true;
    return;
  }
  const { model: select, label, count, temperature, seed } = form.elements;
  const chosen = () => fitting.find(({ name }) => name === select.value);

  async function choose() {
    const { labels } = (await manifestOf(chosen())).generate;
    label.replaceChildren(new Option("anything", ""), ...labels.map((name) => new Option(name, name)));
    label.disabled = labels.length === 0;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = {
      count: Number(count.value),
      temperature: Number(temperature.value),
      label: label.value || null,
      seed: seed.value === "" ? null : Number(seed.value),
    };
    try {
      const response = await post("generate", body, { query: asking(chosen()), accept: "application/x-npy" });
      const used = response.headers.get("X-Seed");
      showDrawn(pad, await readNpy(response));
      said.replaceChildren(`Seed ${used} draws these again. `, reuse(seed, used), " Click an image to look at it above.");
      tell(problem, null);
    } catch (error) {
      said.textContent = "";
      tell(problem, error);
    }
  });
  temperature.addEventListener("input", () => {
    temperature.nextElementSibling.textContent = Number(temperature.value).toFixed(2);
  });
  select.addEventListener("change", choose);
  fill(select, fitting);
  await choose();
  form.querySelector("button").disabled = false; // pressed before, the browser would send the form itself
}

function reuse(seed, used) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Keep this seed";
  button.addEventListener("click", () => {
    seed.value = used;
  });
  return button;
}

function showDrawn(pad, { shape, data }) {
  const images = shape.length === 3 ? { shape: [1, ...shape], data } : { shape, data };
  const size = images.shape.slice(1).reduce((a, b) => a * b, 1);
  const items = Array.from({ length: images.shape[0] }, (_, i) => {
    const picture = blank(1, 1);
    paint(picture, images, i * size);
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = `Look at drawn image ${i + 1}`;
    button.append(picture);
    button.addEventListener("click", () => {
      pad.set(picture);
      document.getElementById("look").scrollIntoView();
    });
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  document.getElementById("drawn").replaceChildren(...items);
}
