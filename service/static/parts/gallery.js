/** The pictures of a folder, the most unusual first. */

import { figure } from "../common/verdict.js";

/**
 * @param {(part: object) => void} select
 * @returns {{draw: (parts: object[], current: object?, limit: number?) => void}} `limit` is the score from which a part
 *     is unusual.
 */
export function setUpGallery(select) {
  const list = document.getElementById("gallery");
  const form = document.getElementById("part-filter");
  const itemByPart = new Map();
  let last = null;
  form.addEventListener("input", () => last && draw(...last));
  form.addEventListener("submit", (event) => event.preventDefault());

  function itemOf(part) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "part";
    const picture = document.createElement("img");
    picture.alt = "";
    const [name, verdict] = ["span", "span"].map((kind) => document.createElement(kind));
    name.className = "part-name";
    verdict.className = "verdict";
    button.append(picture, name, verdict);
    button.addEventListener("click", () => select(part));
    item.append(button);
    return { item, button, picture, name, verdict };
  }

  function draw(parts, current, limit) {
    last = [parts, current, limit];
    const [only, words] = [form.elements.only.value, form.elements.words.value.trim().toLowerCase()];
    for (const part of itemByPart.keys()) if (!parts.includes(part)) itemByPart.delete(part);
    const counts = { all: parts.length, unusual: 0, normal: 0 };
    const shown = [];
    for (const part of sorted(parts)) {
      if (!itemByPart.has(part)) itemByPart.set(part, itemOf(part));
      const { item, button, picture, name, verdict } = itemByPart.get(part);
      const kind = kindOf(part, limit);
      if (kind in counts) counts[kind] += 1;
      button.dataset.kind = kind;
      button.setAttribute("aria-current", String(part === current));
      name.textContent = part.name;
      verdict.textContent = part.answer ? `${kind} ${figure(part.answer.score)}` : kind;
      if (part.thumbUrl && picture.src !== part.thumbUrl) picture.src = part.thumbUrl;
      if ((only === "all" || only === kind) && part.name.toLowerCase().includes(words)) shown.push(item);
    }
    for (const [kind, n] of Object.entries(counts)) form.querySelector(`[data-count="${kind}"]`).textContent = n;
    if (shown.length !== list.children.length || shown.some((item, i) => item !== list.children[i])) {
      const focused = document.activeElement;
      list.replaceChildren(...shown);
      if (list.contains(focused)) focused.focus(); // moving an element takes the focus from it
    }
  }

  return { draw };
}

/** Highest score first; what has none yet, or failed, comes last. */
export function sorted(parts) {
  const score = (part) => part.answer?.score ?? -Infinity;
  return [...parts].sort((a, b) => score(b) - score(a) || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** "unusual", "normal", "failed" or "waiting". */
export function kindOf({ answer, error }, limit) {
  if (answer) return answer.score >= limit ? "unusual" : "normal";
  return error ? "failed" : "waiting";
}
