/** The images between two: both ends are encoded, and what lies between their latents is decoded. */

import { call, tell } from "../common/api.js";
import { latest } from "../common/latest.js";
import { able, asking, fill, lackOf } from "../common/models.js";
import { blank, pen, show, toPng } from "../common/pixels.js";

const ENDS = ["first", "second"];
const STEPS = 9;

export async function setUpBetween(pad, models) {
  const section = document.getElementById("between");
  const [said, problem, lack, select, picture] = [".said", ".problem", ".lack", "select", "img"].map((what) =>
    section.querySelector(what),
  );
  const fitting = able(models, "encode", "decode");
  if (!fitting.length) {
    lack.textContent = lackOf(models, "encodes and decodes");
    lack.hidden = false;
    section.querySelector(".offered").hidden = true;
    return;
  }
  const canvases = ENDS.map((end) => document.getElementById(`${end}-end`));

  const draw = latest(async (signal) => {
    const model = fitting.find(({ name }) => name === select.value);
    picture.hidden = true; // it would show the way between other images
    said.textContent = "";
    try {
      const body = new FormData();
      for (const [i, canvas] of canvases.entries()) body.append("file", await toPng(canvas), `${ENDS[i]}.png`);
      const query = { ...asking(model), steps: STEPS, view: "strip" };
      const response = await call("interpolate", { query, body, accept: "image/png", signal });
      show(picture, await response.blob());
      picture.hidden = false;
      said.textContent = `${STEPS} steps along a straight line between the two latents, by ${response.headers.get("X-Model")}.`;
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
  });

  function put(i, image) {
    const canvas = canvases[i];
    [canvas.width, canvas.height] = [image.width, image.height];
    pen(canvas).drawImage(image, 0, 0);
    return draw.fresh();
  }

  for (const [i, end] of ENDS.entries()) {
    document.getElementById(`${end}-take`).addEventListener("click", () => put(i, pad.image));
  }
  select.addEventListener("change", () => draw.fresh());
  fill(select, fitting);
  const [three, eight] = [3, 8].map((digit) => pad.samples[digit] ?? blank(28, 28));
  await Promise.all([put(0, three), put(1, eight)]);
}
