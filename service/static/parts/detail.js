/** One part, large: its heat map, its regions, what its score means, and another part beside it. */

import { tell } from "../common/api.js";
import { latest } from "../common/latest.js";
import { count, figure } from "../common/verdict.js";
import { kindOf, sorted } from "./gallery.js";
import { heatMapOf, verdictOf } from "./judge.js";

const COARSE = 128; // pixels: narrower pictures are shown as squares

/**
 * @returns {{show: (part: object?, context: object) => void}} `context` has the model, its calibration, the chosen step,
 *     the mask of what to ignore, and all parts.
 */
export function setUpDetail() {
  const root = document.getElementById("part-detail");
  const [name, verdict, said, problem] = [".part-title", ".big-verdict", ".said", ".problem"].map((what) => root.querySelector(what));
  const [base, heat, boxes, table] = [".base", ".heat", ".boxes", "table"].map((what) => root.querySelector(what));
  const [opacity, number, beside] = ["heat-opacity", "region-numbers", "part-beside"].map((id) => document.getElementById(id));
  const [other, otherName] = [".other img", ".other figcaption"].map((what) => root.querySelector(what));
  let current = null;
  let context = null;
  let asked = null; // the part whose heat map is on its way, its step and its mask

  /** Heat map and regions at the chosen rate; they are kept with the part until the rate is another. */
  const look = latest(async (signal, part, { model, step, ignore }) => {
    asked = { part, step, ignore };
    try {
      await complete(part, { model, step, ignore }, signal);
      signal.throwIfAborted();
      if (part === current) draw();
      tell(problem, null);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      tell(problem, error);
    } finally {
      asked = null;
    }
  });

  function draw() {
    const { calibration, step } = context;
    const { answer } = current;
    name.textContent = current.name;
    base.hidden = !current.url || current.isShowable === false;
    if (!base.hidden && base.src !== current.url) base.src = current.url;
    const kind = kindOf(current, step?.threshold);
    verdict.textContent = { unusual: "Unusual", normal: "Normal", failed: "Failed", waiting: "Waiting" }[kind];
    verdict.dataset.kind = kind;
    said.textContent = answer
      ? `${calibration.say(answer.score)}. Score ${figure(answer.score)}, limit ${figure(step.threshold)}, by ${answer.by}.${unlike(answer)}`
      : "";
    const own = isFor(current.detail, context) ? current.detail : null;
    heat.hidden = !own;
    if (own && heat.src !== own.url) heat.src = own.url;
    root.querySelector(".stage").classList.toggle("only-heat", base.hidden);
    for (const img of [base, heat]) img.classList.toggle("coarse", Boolean(current.look && current.look.width <= COARSE));
    drawRegions(own?.answer.regions ?? null, own?.answer);
  }

  function drawRegions(regions, answer) {
    table.hidden = !regions?.length;
    boxes.replaceChildren();
    root.querySelector(".no-regions").hidden = !(regions && !regions.length);
    if (!regions?.length || !answer) return;
    const { width, height } = current.look ?? { width: heat.naturalWidth, height: heat.naturalHeight };
    const rows = regions.map((region, i) => {
      const share = region.area / (width * height);
      const cells = [i + 1, `${region.x}, ${region.y}`, `${region.width}x${region.height}`, `${count(region.area)} (${(100 * share).toFixed(share < 0.1 ? 2 : 0)} %)`, figure(region.peak)];
      const row = document.createElement("tr");
      row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      if (width && number.checked) {
        const box = document.createElement("span");
        box.textContent = i + 1;
        Object.assign(box.style, {
          left: `${(100 * region.x) / width}%`,
          top: `${(100 * region.y) / height}%`,
          width: `${(100 * region.width) / width}%`,
          height: `${(100 * region.height) / height}%`,
        });
        boxes.append(box);
      }
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
  }

  function fillBeside() {
    const ordinary = sorted(context.parts).filter(({ answer }) => answer).at(-1);
    const chosen = beside.value;
    const options = [new Option("nothing", ""), ...(ordinary ? [new Option(`the most ordinary one here: ${ordinary.name}`, "ordinary")] : [])];
    options.push(...context.parts.filter((part) => part !== current).map((part) => new Option(part.name, String(part.number))));
    beside.replaceChildren(...options);
    beside.value = options.some(({ value }) => value === chosen) ? chosen : "";
    const part = beside.value === "ordinary" ? ordinary : context.parts.find(({ number: n }) => String(n) === beside.value);
    other.closest("figure").hidden = !part;
    if (part) {
      other.src = part.url;
      other.alt = part.name;
      otherName.textContent = `${part.name}${part.answer ? `, score ${figure(part.answer.score)}` : ""}`;
    }
  }

  function show(part, next) {
    context = next;
    root.hidden = !part;
    if (!part) {
      current = null;
      return;
    }
    if (part !== current) {
      look.stop();
      for (const img of [base, heat]) img.removeAttribute("src");
    }
    current = part;
    tell(problem, part.error ?? null);
    draw();
    fillBeside();
    const isAsked = asked?.part === part && isFor(asked, context);
    if (part.answer && !isFor(part.detail, context) && !isAsked) look.fresh(part, context);
  }

  opacity.addEventListener("input", () => {
    heat.style.opacity = opacity.value;
  });
  heat.addEventListener("load", () => current && draw());
  number.addEventListener("change", () => current && draw());
  beside.addEventListener("change", fillBeside);
  heat.style.opacity = opacity.value;
  return { show };
}

/** Fetches heat map and regions of a part at a step of the rate, less what a mask covers. */
export async function complete(part, { model, step, ignore }, signal) {
  if (isFor(part.detail, { step, ignore })) return;
  const options = { rate: step.k === null ? undefined : step.rate, ignore, signal };
  const [answer, blob] = await Promise.all([verdictOf(model, part.file, options), heatMapOf(model, part.file, options)]);
  if (part.detail) URL.revokeObjectURL(part.detail.url);
  part.detail = { step, ignore, answer, blob, url: URL.createObjectURL(blob) };
}

function isFor(detail, { step, ignore }) {
  return detail?.step === step && detail.ignore === ignore;
}

/** What the service says of a picture that is unlike all it learnt from. */
function unlike({ unlike_training: found = [] }) {
  return found.length ? ` Unlike the training pictures: ${found.map((one) => one.detail ?? one).join("; ")}.` : "";
}
