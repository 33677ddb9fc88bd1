/** A request whose way there and back can be watched: for large pictures. */

import { headersOf, problemOf, Problem } from "./api.js";

/**
 * Posts a body and reports how far it is.
 *
 * @param {string} path Such as "denoise".
 * @param {{query?: object, body: Blob, accept?: string, signal: AbortSignal, isPatient?: boolean,
 *     onProgress?: (phase: "upload" | "work" | "download", share?: number) => void}} options
 *     `share` is in [0, 1], undefined where nobody knows. With `isPatient` the service may take it as a job.
 * @returns {Promise<{status: number, blob: Blob, header: (name: string) => string?}>}
 * @throws {Problem} As the API says it; a DOMException "AbortError" once `signal` says so.
 */
export function transfer(path, { query = {}, body, accept, signal, isPatient = false, onProgress = () => undefined }) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const request = new XMLHttpRequest();
    request.open("POST", `${path}?${new URLSearchParams(query)}`);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headersOf({ accept, type: "application/octet-stream" }))) {
      request.setRequestHeader(name, value);
    }
    if (isPatient) request.setRequestHeader("Prefer", "respond-async");
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    request.upload.addEventListener("progress", (event) => onProgress("upload", event.loaded / event.total));
    request.upload.addEventListener("load", () => onProgress("work"));
    request.addEventListener("progress", (event) => {
      onProgress("download", event.lengthComputable ? event.loaded / event.total : undefined);
    });
    request.addEventListener("loadend", () => signal.removeEventListener("abort", abort));
    request.addEventListener("abort", () => reject(signal.reason));
    request.addEventListener("error", () => reject(new Problem("No answer", "the service cannot be reached; is it still running?")));
    request.addEventListener("load", async () => {
      if (request.status === 200 || request.status === 202) {
        resolve({ status: request.status, blob: request.response, header: (name) => request.getResponseHeader(name) });
      } else {
        reject(problemOf(request.status, await request.response.text()));
      }
    });
    onProgress("upload", 0);
    return request.send(body);
  });
}
