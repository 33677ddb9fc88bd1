/** What the live models can do, and lists to choose one from. */

import { call } from "./api.js";

const manifests = new Map();

/** Every live model, as GET /models lists them. */
export async function liveModels() {
  return (await call("models")).json();
}

/** All that is known about a model; asked for once. */
export async function manifestOf(model) {
  const id = `${model.name}/${model.version}`;
  if (!manifests.has(id)) {
    const response = await call(`models/${encodeURIComponent(model.name)}`, { query: { version: model.version } });
    manifests.set(id, await response.json());
  }
  return manifests.get(id);
}

/** The models that can do all of some tasks, defaults first. */
export function able(models, ...tasks) {
  const fitting = models.filter((model) => tasks.every((task) => model.tasks.includes(task)));
  const rank = (model) => (tasks.some((task) => model.default_for.includes(task)) ? 0 : 1);
  return fitting.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
}

/** What to say where no model will do. */
export function lackOf(models, what) {
  const live = models.length ? `Live models: ${models.map((model) => model.name).join(", ")}.` : "No model is live.";
  return `No live model ${what}. ${live}`;
}

/** Fills a list with models, and returns the one that is chosen by its name, or the first. */
export function fill(select, models, chosen = select.value) {
  select.replaceChildren(...models.map((model) => new Option(labelOf(model), model.name)));
  const found = models.find((model) => model.name === chosen) ?? models[0];
  select.value = found?.name ?? "";
  select.disabled = models.length < 2;
  return found;
}

/** The query that asks a model version. */
export function asking(model) {
  return { model: model.name, version: model.version };
}

/** The name and version of a model, as X-Model has them. */
export function labelOf({ name, version }) {
  return `${name}/${version}`;
}
