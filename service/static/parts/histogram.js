/** Two histograms against each other: this folder upwards, the good pictures of the calibration downwards. */

import { figure } from "../common/verdict.js";

const [WIDTH, HALF, BINS] = [600, 70, 40];
const NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * Draws the scores and the limit.
 *
 * @param {SVGElement} svg
 * @param {number[]} calibration Scores of good pictures.
 * @param {number[]} folder Scores of the pictures that were opened.
 * @param {number} limit The score from which a picture is unusual.
 */
export function drawHistogram(svg, calibration, folder, limit) {
  const all = [...calibration, ...folder, limit];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = 0.03 * (high - low || 1);
  const [from, to] = [low - room, high + room];
  const place = (score) => ((score - from) / (to - from)) * WIDTH;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${2 * HALF}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const bars = [
    ...barsOf(folder, place, "folder", (height) => HALF - height),
    ...barsOf(calibration, place, "good", () => HALF),
  ];
  const axis = shape("line", { x1: 0, x2: WIDTH, y1: HALF, y2: HALF, class: "axis" });
  const line = shape("line", { x1: place(limit), x2: place(limit), y1: 0, y2: 2 * HALF, class: "limit" });
  svg.replaceChildren(...bars, axis, line);
  const over = folder.filter((score) => score >= limit).length;
  svg.setAttribute(
    "aria-label",
    `Scores from ${figure(low)} to ${figure(high)}. ${over} of ${folder.length} pictures here and ${calibration.filter((score) => score >= limit).length} of ${calibration.length} good pictures are at or above the limit of ${figure(limit)}.`,
  );
  return [low, high];
}

function barsOf(scores, place, kind, top) {
  const counts = new Array(BINS).fill(0);
  for (const score of scores) counts[Math.min(BINS - 1, Math.floor((place(score) / WIDTH) * BINS))] += 1;
  const most = Math.max(1, ...counts);
  return counts.flatMap((count, i) => {
    if (!count) return [];
    const height = (count / most) * (HALF - 4);
    return [shape("rect", { x: (i * WIDTH) / BINS + 1, width: WIDTH / BINS - 2, y: top(height), height, class: kind })];
  });
}

function shape(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
