/** A request for a large picture, done as a job: its place in the queue and its tiles can be watched. */

import { call, Problem } from "./api.js";
import { transfer } from "./transfer.js";

/**
 * As {@link transfer}, with more phases: "queue" with how many wait before it, "tiles" with those that are done and all.
 * A service that takes no jobs answers as to any request.
 *
 * @param {string} path
 * @param {{query?: object, body: Blob, accept?: string, signal: AbortSignal,
 *     onProgress: (phase: "upload" | "queue" | "tiles" | "work" | "download", share?: number, counts?: object) => void}} options
 * @returns {Promise<{blob: Blob, header: (name: string) => string?}>}
 */
export async function job(path, { signal, onProgress, ...options }) {
  const sent = await transfer(path, { ...options, signal, onProgress, isPatient: true });
  if (sent.status !== 202) return sent;
  const address = `jobs/${JSON.parse(await sent.blob.text()).id}`;
  try {
    await follow(address, signal, onProgress);
    onProgress("download");
    const response = await call(`${address}/result`, { signal });
    return { blob: await response.blob(), header: (name) => response.headers.get(name) };
  } finally {
    call(address, { method: "DELETE" }).catch(() => undefined); // cancelled, or here: the service need not keep it
  }
}

/** Until a job has ended. Its events come through `fetch`, since an EventSource sends no key. */
async function follow(address, signal, onProgress) {
  let isOver = false;
  while (!isOver) {
    const { body } = await call(`${address}/events`, { accept: "text/event-stream", signal });
    for await (const event of eventsOf(body)) {
      if (event.name === "gone") throw new Problem("The job is gone", "somebody has cancelled it");
      const { state, position, progress } = JSON.parse(event.data);
      if (state === "queued") onProgress("queue", undefined, { before: position });
      else if (progress.of) onProgress("tiles", progress.done / progress.of, progress);
      else onProgress("work");
      isOver = state === "done" || state === "failed"; // why it failed is what its result says
    }
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += piece.value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data) yield { name: /^event: (.*)$/m.exec(event)?.[1], data };
    }
  }
}
