/** Every live model: its picture, what it does, how well, and its card. */

import { call, tell } from "../common/api.js";
import { labelOf } from "../common/models.js";
import { showPreview } from "../common/preview.js";

const FIGURES = 3; // of a model; its card has all

export function showModels(models) {
  document.getElementById("model-list").replaceChildren(...models.map(itemOf));
}

function itemOf(model) {
  const item = document.createElement("li");
  item.className = "card";
  const name = document.createElement("h4");
  name.textContent = labelOf(model);
  const picture = document.createElement("img");
  picture.alt = `Examples of ${model.name} on images that it was not trained on`;
  picture.className = "preview";
  showPreview(picture, model);
  const summary = document.createElement("p");
  summary.textContent = model.summary;
  const tasks = document.createElement("p");
  tasks.className = "quiet";
  tasks.textContent = `Can ${model.tasks.map((task) => (task === "anomaly" ? "find anomalies" : task)).join(", ")}`;
  const figures = document.createElement("ul");
  figures.className = "figures quiet";
  figures.append(...model.metrics.slice(0, FIGURES).map((metric) => figureOf(metric)));
  item.append(name, picture, summary, tasks, figures, cardOf(model));
  return item;
}

function figureOf({ name, value, unit, baselines, data }) {
  const line = document.createElement("li");
  const beside = Object.entries(baselines).map(([baseline, figure]) => `${baseline} ${short(figure)}`);
  line.textContent = `${name} ${short(value)} ${unit}${beside.length ? ` (${beside.join(", ")})` : ""}`;
  line.title = data;
  return line;
}

function short(value) {
  return String(Number(value.toPrecision(3)));
}

/** The card is asked for when it is first opened. */
function cardOf(model) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = "Card";
  const text = document.createElement("pre");
  text.tabIndex = 0; // it scrolls
  text.setAttribute("aria-label", `Card of ${model.name}`);
  text.setAttribute("role", "region");
  const problem = document.createElement("p");
  problem.className = "problem";
  problem.hidden = true;
  details.append(summary, text, problem);
  details.addEventListener("toggle", async () => {
    if (!details.open || text.textContent) return;
    try {
      const path = `models/${encodeURIComponent(model.name)}/card`;
      text.textContent = await (await call(path, { query: { version: model.version } })).text();
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
  });
  return details;
}
