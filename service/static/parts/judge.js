/** What the service says of parts, a few at a time. */

import { call } from "../common/api.js";
import { asking } from "../common/models.js";

const AT_ONCE = 3;

/** The verdict on a picture; with the limits of a rate, and less what a mask covers in white, where these are chosen. */
export async function verdictOf(model, file, { rate, ignore, signal } = {}) {
  const response = await call("anomaly", { ...request(model, file, rate, ignore, signal), accept: "application/json" });
  return { ...(await response.json()), by: response.headers.get("X-Model") };
}

/** The heat map over the picture, as PNG. */
export async function heatMapOf(model, file, { rate, ignore, signal } = {}) {
  return (await call("anomaly", { ...request(model, file, rate, ignore, signal), accept: "image/png" })).blob();
}

function request(model, file, rate, ignore, signal) {
  const query = { ...asking(model), max_fpr: rate };
  if (!ignore) return { query, body: file, type: "application/octet-stream", signal };
  const body = new FormData();
  body.append("file", file);
  body.append("ignore", ignore);
  return { query, body, signal };
}

/** Does `work` for each item, a few at a time, in order; stops when `signal` says so. */
export async function eachOf(items, work, signal) {
  const waiting = [...items];
  async function next() {
    while (waiting.length && !signal.aborted) await work(waiting.shift());
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}
