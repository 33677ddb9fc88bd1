/** The verdicts on a folder as CSV, and as one HTML file that needs nothing else. */

import { figure, percent } from "../common/verdict.js";
import { kindOf, sorted } from "./gallery.js";
import { thumbOf } from "./thumb.js";

/** One line per picture. Names that a spreadsheet would take for a formula get an apostrophe in front. */
export function toCsv(parts, { calibration, step }) {
  const head = ["name", "verdict", "score", "limit", "false_alarm_rate", "p_value", "higher_than", "of", "model", "regions"];
  const rows = sorted(parts).map((part) => {
    const { answer, detail } = part;
    const kind = kindOf(part, step.threshold);
    if (!answer) return [part.name, kind, "", "", "", "", "", "", "", part.error?.message ?? ""];
    const regions = (detail?.step === step ? detail.answer.regions : []).map((r) => `${r.x} ${r.y} ${r.width} ${r.height} ${r.area}`);
    const above = calibration.above(answer.score);
    return [part.name, kind, answer.score, step.threshold, step.rate, calibration.pValue(answer.score), calibration.n - above, calibration.n, answer.by, regions.join("; ")];
  });
  const cell = (value) => {
    const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return new Blob([[head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n"), "\r\n"], { type: "text/csv" });
}

/** The report: the figures, the histogram, and every picture with its heat map. */
export async function toReport(parts, { model, calibration, step, ignore, histogram }) {
  const ordered = sorted(parts);
  const unusual = ordered.filter((part) => kindOf(part, step.threshold) === "unusual").length;
  const judged = ordered.filter(({ answer }) => answer).length;
  const items = [];
  for (const part of ordered) items.push(await itemOf(part, { calibration, step }));
  const title = `${unusual} of ${judged} pictures are unusual`;
  return new Blob(
    [
      `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">`,
      `<title>${escape(title)}</title><style>${STYLE}</style><h1>${escape(title)}</h1>`,
      `<p>Judged by ${escape(`${model.name}/${model.version}`)} (${escape(model.summary)}) on ${escape(new Date().toLocaleString())}.`,
      ` A score of ${figure(step.threshold)} or more is unusual: about ${percent(step.rate)} of good pictures have one,`,
      ` judging by the ${calibration.n} good pictures of the calibration.`,
      ignore ? ` What is white in ${escape(ignore.name)} takes no part in the verdicts.</p>` : "</p>",
      `${histogram.outerHTML}<p class="key">Above: these pictures. Below: the good ones. The line is the limit.</p>`,
      ...items,
      "</html>",
    ],
    { type: "text/html" },
  );
}

async function itemOf(part, { calibration, step }) {
  const { answer, detail } = part;
  const kind = kindOf(part, step.threshold);
  const pictures = [part.thumb, detail?.step === step ? detail.blob : null].filter(Boolean);
  const images = await Promise.all(pictures.map(toDataUrl));
  const said = answer ? `${calibration.say(answer.score)}. Score ${figure(answer.score)}.` : (part.error?.message ?? "Not judged.");
  const regions = detail?.step === step ? detail.answer.regions : [];
  const places = regions.map((r) => `<li>${r.width}x${r.height} pixels at ${r.x}, ${r.y}</li>`).join("");
  return `<section class="${kind}"><h2>${escape(part.name)}: ${kind}</h2><p>${escape(said)}</p>${images
    .map((url, i) => `<img src="${url}" alt="${i ? "heat map of" : ""} ${escape(part.name)}">`)
    .join("")}${places ? `<ol>${places}</ol>` : ""}</section>`;
}

async function toDataUrl(blob) {
  const small = await thumbOf(blob);
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.readAsDataURL(small);
  });
}

function escape(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const STYLE = `:root{color-scheme:light dark}body{max-width:60rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}
h2{font-size:1rem;margin:0;overflow-wrap:anywhere}section{border-left:.4rem solid #999;padding:.2rem 1rem;margin:1.2rem 0;break-inside:avoid}
section.unusual{border-color:#c4202b}p{margin:.2rem 0}img{max-width:46%;margin:.3rem .5rem 0 0}svg{width:100%;height:9rem}
.folder{fill:#b8640f}.good{fill:#777}.axis{stroke:#777}.limit{stroke:#c4202b;stroke-width:3}.key{color:#777}`;
