/** Which model judges: proposed by what the pictures are, or chosen and then remembered. */

import { bestFor, misfit, sayInput, sayLook } from "../common/fitting.js";
import { able, labelOf } from "../common/models.js";
import { showPreview } from "../common/preview.js";
import { verdictOf } from "./judge.js";

const REMEMBERED = "hourglass-parts-model";

/**
 * @param {object[]} models All live ones.
 * @param {(model: object?) => void} onChoice Called when another model is to judge.
 * @returns {{models: object[], chosen: () => object?, propose: (look: object?, picture: Blob) => Promise<void>,
 *     renew: (model: object) => void}} `propose` picks the model for pictures that look so, unless one is remembered: by
 *     size, colour and shape, and by what the models say of the first picture where several are as good; undefined is a
 *     picture that the browser cannot read. `renew` puts another version of a model in its place.
 */
export function setUpChoice(models, onChoice) {
  const list = document.getElementById("part-models");
  const why = document.getElementById("part-why");
  let fitting = able(models, "anomaly");
  let chosen = fitting.find(({ name }) => name === localStorage.getItem(REMEMBERED));
  let isByHand = chosen !== undefined;
  let seen = null; // what the pictures look like
  let isUnread = false; // there are pictures, and the browser cannot tell
  let among = ""; // how it was picked where several fit as well

  function drawList() {
    list.replaceChildren(
      ...fitting.map((model) => {
        const { card, radio, picture } = cardOf(model);
        radio.addEventListener("change", () => {
          isByHand = true;
          localStorage.setItem(REMEMBERED, model.name);
          set(model);
        });
        showPreview(picture, model);
        return card;
      }),
    );
  }

  function set(model) {
    const isOther = model !== chosen;
    chosen = model;
    for (const radio of list.querySelectorAll("input")) radio.checked = radio.value === model?.name;
    say();
    if (isOther) onChoice(model);
  }

  function say() {
    why.textContent = reason();
    why.classList.toggle("problem", Boolean(chosen && seen && misfit(chosen, seen)));
  }

  function reason() {
    if (!chosen) {
      if (isUnread) return "The browser cannot read this picture, so choose a model for it.";
      if (!seen) return "Open a picture, and a model that fits is proposed.";
      return `No live model was made for such pictures (${sayLook(seen)}). Choose one anyway, or train your own: python -m training fit NAME --data FOLDER.`;
    }
    const knows = `Its description: ${chosen.summary}.`;
    const doubt = seen && misfit(chosen, seen);
    if (doubt) return `${labelOf(chosen)} was chosen by you, but its verdicts mean little here: ${doubt}.`;
    if (isByHand) return `${labelOf(chosen)} was chosen by you. ${knows}`;
    return `${labelOf(chosen)} was proposed: your pictures suit it in size and colour (it sees ${sayInput(chosen.input)}; yours: ${seen ? sayLook(seen) : "of a format that the browser cannot read"}). ${among}${knows} Anything else is unusual to it.`;
  }

  async function propose(look, picture) {
    seen = look ?? null;
    isUnread = !look;
    among = "";
    if (isByHand || !look) return say();
    const best = bestFor(fitting, look);
    if (best.length < 2) return set(best[0]);
    const pValues = await Promise.all(best.map((model) => verdictOf(model, picture).then(({ p_value: p }) => p, () => -1)));
    if (isByHand) return say(); // chosen meanwhile
    among = `Of the ${best.length} models that fit, it finds your first picture the most ordinary. `;
    return set(best[pValues.indexOf(Math.max(...pValues))]);
  }

  /** Another version of a model is live. */
  function renew(model) {
    fitting = fitting.map((one) => (one.name === model.name ? model : one));
    drawList();
    set(chosen?.name === model.name ? model : chosen);
  }

  drawList();
  set(chosen);
  return { models: fitting, chosen: () => chosen, propose, renew };
}

function cardOf(model) {
  const card = document.createElement("label");
  card.className = "model-card";
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "part-model", value: model.name });
  const picture = document.createElement("img");
  picture.alt = "";
  const [name, summary, input] = ["strong", "span", "span"].map((kind) => document.createElement(kind));
  name.textContent = labelOf(model);
  summary.textContent = model.summary;
  input.textContent = `Sees ${sayInput(model.input)}`;
  input.className = "quiet";
  card.append(radio, picture, name, summary, input);
  return { card, radio, picture };
}
