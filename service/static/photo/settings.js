/** The form that says what to do with photographs. */

import { able, labelOf, manifestOf } from "../common/models.js";

/**
 * @param {object[]} models All live ones.
 * @param {() => void} onChange Called when another result is wanted.
 * @returns {Promise<{read: () => object, lack: string}>} `lack` is what to say where nothing can be done.
 */
export async function setUpSettings(models, onChange) {
  const form = document.getElementById("photo-settings");
  const fields = form.elements;
  const anySize = (task) => able(models, task).filter((model) => model.input.height === null);
  const denoisers = anySize("denoise");
  const enhancers = anySize("enhance");
  const manifests = new Map();
  for (const model of new Set([...denoisers, ...enhancers])) manifests.set(model.name, await manifestOf(model));
  /** Of several defaults for a task, the service takes the one for the picture's channels. */
  const defaultsOf = (some, task) => some.filter(({ name }) => manifests.get(name).default_for.includes(task));

  fillModels(fields.denoiser, denoisers, defaultsOf(denoisers, "denoise"));
  fillModels(fields.enhancer, enhancers, defaultsOf(enhancers, "enhance"));
  const can = { denoise: denoisers.length > 0, enhance: enhancers.length > 0 };
  for (const radio of fields.what) {
    radio.disabled = !(radio.value === "both" ? can.denoise && can.enhance : can[radio.value]);
  }
  if (!can.denoise && can.enhance) fields.what.value = "enhance";

  /** The noise that can be said to the chosen denoiser; undefined if it asks for none. */
  function maxSigma() {
    const chosen = fields.denoiser.value ? [{ name: fields.denoiser.value }] : defaultsOf(denoisers, "denoise");
    const all = chosen.map(({ name }) => manifests.get(name)?.noise?.max_sigma);
    return all.length && !all.includes(undefined) ? Math.min(...all) : undefined;
  }

  function show() {
    const what = fields.what.value;
    const [isDenoise, isEnhance] = [what !== "enhance", what !== "denoise"];
    const most = maxSigma();
    const isShown = { denoise: isDenoise, enhance: isEnhance, sigma: isDenoise && most !== undefined };
    for (const part of form.querySelectorAll("[data-for]")) part.hidden = !isShown[part.dataset.for];
    if (most !== undefined) fields.sigma.max = most;
    fields.sigma.disabled = fields.estimate.checked;
    fields["sigma-value"].value = fields.estimate.checked ? "auto" : fields.sigma.value;
    fields["strength-value"].value = Number(fields.strength.value).toFixed(2);
  }

  form.addEventListener("input", show);
  form.addEventListener("change", () => {
    show();
    onChange();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  show();

  return {
    lack: can.denoise || can.enhance ? "" : "No live model denoises or enlarges pictures of any size.",
    read() {
      const isAuto = fields.estimate.checked || maxSigma() === undefined;
      return {
        what: fields.what.value,
        denoiser: fields.denoiser.value,
        enhancer: fields.enhancer.value,
        sigma: isAuto ? undefined : Number(fields.sigma.value),
        strength: Number(fields.strength.value),
        isThorough: fields.thorough.checked,
        keepsMetadata: fields.keepMetadata.checked,
      };
    },
  };
}

/** Names each model; first stands the default, or, where several are, the choice by the picture. */
function fillModels(select, models, defaults) {
  const ordered = [...models].sort((a, b) => Number(defaults.includes(b)) - Number(defaults.includes(a)));
  const options = ordered.map((model) => {
    const option = new Option(labelOf(model), model.name);
    option.title = model.summary;
    return option;
  });
  if (defaults.length > 1) options.unshift(new Option(`by colour: ${defaults.map(({ name }) => name).join(" or ")}`, ""));
  select.replaceChildren(...options);
  select.disabled = options.length < 2;
}
