/** The map of two latents: move over it, and the decoded image follows. */

import { post, tell } from "../common/api.js";
import { Chart, boundsOf, colourOf } from "./chart.js";
import { latest, settled } from "../common/latest.js";
import { able, asking, fill, lackOf, manifestOf } from "../common/models.js";
import { blank, paint, readNpy, show } from "../common/pixels.js";

const NPY = "application/x-npy";
const CELLS = 15; // 225 images, below the usual limit of 256 in one request
const STEP = 0.02; // of the map's width per arrow key
const LARGE_STEP = 0.1;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export async function setUpMap(models) {
  const section = document.getElementById("map");
  const [canvas, picture, place] = ["chart", "here", "map-place"].map((id) => document.getElementById(id));
  const [problem, select, lack] = [".problem", "select", ".lack"].map((what) => section.querySelector(what));
  const fitting = able(models, "decode").filter((model) => model.latent_dim === 2);
  const [backdrop, way, wayPicture] = ["backdrop", "way", "way-picture"].map((id) => document.getElementById(id));
  let [model, chart, here, kept] = [null, null, [0, 0], []];

  if (!fitting.length) {
    lack.textContent = lackOf(models, "decodes two latents, so there is no map");
    lack.hidden = false;
    section.querySelector(".offered").hidden = true;
    return;
  }

  const say = settled(() => {
    place.textContent = `At ${here.map((value) => value.toFixed(2)).join(", ")}${nearest(chart.examples, here)}`;
  }, 250);

  async function draw(target, z, signal) {
    const response = await post("decode", { latent: z }, { query: asking(model), accept: NPY, signal });
    paint(target, await readNpy(response));
  }

  const decode = latest(async (signal, z) => {
    try {
      await draw(picture, z, signal);
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
  });

  function redraw() {
    requestAnimationFrame(() => chart.draw(here, backdrop.checked));
  }

  function go(z) {
    here = z;
    redraw();
    say();
    return decode(z);
  }

  async function fillBackdrop() {
    const asked = chart;
    try {
      const response = await post("decode", { latents: asked.cells(CELLS) }, { query: asking(model), accept: NPY });
      asked.setBackdrop(await readNpy(response), CELLS);
      redraw();
    } catch (error) {
      tell(problem, error);
    }
  }

  async function choose() {
    model = fitting.find(({ name }) => name === select.value);
    const manifest = await manifestOf(model);
    const examples = manifest.examples ?? { labels: [], latents: [] };
    const labels = [...new Set(examples.labels)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    chart = new Chart(canvas, boundsOf(manifest.latent, examples.latents), examples, labels);
    kept = [];
    showKept();
    fillLegend(chart, redraw);
    fillTable(chart);
    await Promise.all([go([...manifest.latent.mean]), fillBackdrop()]);
  }

  async function keep() {
    const one = { z: here, picture: blank(1, 1) };
    kept.push(one);
    showKept();
    try {
      await draw(one.picture, one.z);
    } catch (error) {
      tell(problem, error);
    }
  }

  function showKept() {
    document.getElementById("kept").replaceChildren(
      ...kept.map((one, i) => {
        const item = document.createElement("li");
        const back = document.createElement("button");
        back.type = "button";
        back.ariaLabel = `Back to place ${i + 1}, at ${one.z.map((value) => value.toFixed(2)).join(", ")}`;
        back.append(one.picture);
        back.addEventListener("click", () => go(one.z));
        item.append(back);
        return item;
      }),
    );
    document.getElementById("kept-none").hidden = kept.length > 0;
    way.disabled = kept.length < 2;
    hideWay();
  }

  way.addEventListener("click", async () => {
    if (!wayPicture.hidden) return hideWay();
    const body = { latents: kept.slice(-2).map(({ z }) => z) };
    try {
      const moving = { steps: 24, view: "animation" };
      const still = { steps: 9, view: "strip" };
      const query = { ...asking(model), ...(matchMedia("(prefers-reduced-motion: reduce)").matches ? still : moving) };
      const response = await post("interpolate", body, { query, accept: "image/webp" });
      show(wayPicture, await response.blob());
      wayPicture.hidden = false;
      way.textContent = "Stop";
      return tell(problem, null);
    } catch (error) {
      return tell(problem, error);
    }
  });

  function hideWay() {
    wayPicture.hidden = true;
    way.textContent = "Path between the last two";
  }

  canvas.addEventListener("pointermove", (event) => go(chart.toLatent(event.clientX, event.clientY)));
  canvas.addEventListener("click", (event) => {
    go(chart.toLatent(event.clientX, event.clientY));
    keep();
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      keep();
    } else if (event.key in KEYS) {
      event.preventDefault();
      const step = event.shiftKey ? LARGE_STEP : STEP;
      go(
        chart.bounds.map(([low, high], axis) =>
          Math.min(high, Math.max(low, here[axis] + KEYS[event.key][axis] * step * (high - low))),
        ),
      );
    }
  });
  backdrop.addEventListener("change", redraw);
  select.addEventListener("change", choose);
  fill(select, fitting);
  await choose();
}

/** What the nearest test image shows. */
function nearest({ labels, latents }, here) {
  const distances = latents.map((z) => Math.hypot(z[0] - here[0], z[1] - here[1]));
  const label = labels[distances.indexOf(Math.min(...distances))];
  return label === undefined ? "" : `; the nearest test image is a ${label}`;
}

function fillLegend(chart, redraw) {
  const buttons = chart.labels.map((label, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.ariaPressed = "true";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colourOf(i);
    button.append(swatch, label);
    button.addEventListener("click", () => {
      const isShown = button.ariaPressed === "true";
      button.ariaPressed = String(!isShown);
      if (isShown) chart.hidden.add(label);
      else chart.hidden.delete(label);
      redraw();
    });
    return button;
  });
  document.getElementById("legend").replaceChildren(...buttons);
}

function fillTable({ labels, examples }) {
  const table = document.getElementById("map-table");
  const rows = labels.map((label) => {
    const own = examples.latents.filter((_, i) => examples.labels[i] === label);
    const cells = [0, 1].map((axis) => {
      const mean = own.reduce((sum, z) => sum + z[axis], 0) / own.length;
      const variance = own.reduce((sum, z) => sum + (z[axis] - mean) ** 2, 0) / own.length;
      return `${mean.toFixed(2)} ± ${Math.sqrt(variance).toFixed(2)}`;
    });
    return rowOf("td", [label, own.length, ...cells]);
  });
  const head = rowOf("th", ["Label", "Test images", "First latent", "Second latent"]);
  for (const cell of head.cells) cell.scope = "col";
  table.replaceChildren(table.caption, head, ...rows);
}

function rowOf(kind, values) {
  const row = document.createElement("tr");
  for (const value of values) {
    const cell = document.createElement(kind);
    cell.textContent = value;
    row.append(cell);
  }
  return row;
}
