/** What the service says of parts, a few at a time. */

import { call } from "../common/api.js";
import { asking } from "../common/models.js";

const AT_ONCE = 3;

/** The verdict on a picture; with the limits of a rate where one is chosen. */
export async function verdictOf(model, file, { rate, signal } = {}) {
  const response = await call("anomaly", { ...request(model, file, rate, signal), accept: "application/json" });
  return { ...(await response.json()), by: response.headers.get("X-Model") };
}

/** The heat map over the picture, as PNG. */
export async function heatMapOf(model, file, { rate, signal } = {}) {
  return (await call("anomaly", { ...request(model, file, rate, signal), accept: "image/png" })).blob();
}

function request(model, file, rate, signal) {
  return { query: { ...asking(model), max_fpr: rate }, body: file, type: "application/octet-stream", signal };
}

/** Does `work` for each item, a few at a time, in order; stops when `signal` says so. */
export async function eachOf(items, work, signal) {
  const waiting = [...items];
  async function next() {
    while (waiting.length && !signal.aborted) await work(waiting.shift());
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}
