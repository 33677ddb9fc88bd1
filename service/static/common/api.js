/** Requests to the service this page came from, and problems as it says them. */

const KEY = "hourglass-key";

/** What the service refused, in its own words. */
export class Problem extends Error {
  constructor(title, detail, status = 0) {
    super(`${title}: ${detail}`);
    this.status = status;
  }
}

/** Remembers a key until the tab is closed. */
export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** The headers of a request, with the key if there is one. */
export function headersOf({ type, accept }) {
  const headers = {};
  if (type) headers["Content-Type"] = type;
  if (accept) headers.Accept = accept;
  const key = sessionStorage.getItem(KEY);
  if (key) headers["X-API-Key"] = key;
  return headers;
}

/**
 * One request. Addresses are relative, so that the page works below a path prefix.
 *
 * @param {string} path Such as "denoise".
 * @param {{query?: object, method?: string, body?: BodyInit, type?: string, accept?: string, signal?: AbortSignal}} options
 * @returns {Promise<Response>} The answer, if it is a good one.
 * @throws {Problem} The service refuses or is silent. A key that it wants is also asked for on the page.
 */
export async function call(path, { query = {}, method, body, type, accept, signal } = {}) {
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const address = asked.length ? `${path}?${new URLSearchParams(asked)}` : path;
  const headers = headersOf({ type, accept });
  let response;
  try {
    response = await fetch(address, { method: method ?? (body === undefined ? "GET" : "POST"), headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("No answer", "the service cannot be reached; is it still running?");
  }
  if (response.ok) return response;
  throw problemOf(response.status, await response.text());
}

/** A request whose body is JSON. */
export function post(path, value, options = {}) {
  return call(path, { ...options, body: JSON.stringify(value), type: "application/json" });
}

/** The problem that an answer tells of. A key that the service wants is also asked for on the page. */
export function problemOf(status, text) {
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // a proxy in between has pages of its own
  }
  const problem = new Problem(told.title ?? `Status ${status}`, told.detail ?? "no explanation", status);
  if (status === 401 || told.code === "wrong-api-key") {
    document.dispatchEvent(new CustomEvent("key-wanted", { detail: problem.message }));
  }
  return problem;
}

/** Show a problem in its element, or hide the element if there is none. */
export function tell(element, error) {
  if (error?.name === "AbortError") return;
  if (error && !(error instanceof Problem)) console.error(error);
  element.hidden = !error;
  element.textContent = error ? error.message : "";
}
