/** Starts the page: asks what is live, then sets up each part. */

import { Problem, tell, useKey } from "./api.js";
import { setUpGenerate } from "./generate.js";
import { setUpLook } from "./look.js";
import { setUpMap } from "./map.js";
import { liveModels } from "./models.js";
import { setUpPad } from "./pad.js";
import { setUpSliders } from "./sliders.js";

const LOOK_AGAIN_MS = 2000;

const trouble = document.getElementById("trouble");
const keyForm = document.getElementById("key");
const pad = setUpPad();
let isSetUp = false;

async function start() {
  try {
    const models = await liveModels();
    keyForm.hidden = true;
    if (isSetUp) return;
    if (!models.length) {
      setTimeout(start, LOOK_AGAIN_MS);
      throw new Problem("No model is live yet", "this page looks again every few seconds");
    }
    tell(trouble, null);
    isSetUp = true;
    setUpLook(pad, models);
    await Promise.all([setUpMap(models), setUpSliders(pad, models), setUpGenerate(pad, models)]);
  } catch (error) {
    if (keyForm.hidden) tell(trouble, error);
  }
}

document.addEventListener("key-wanted", ({ detail }) => {
  keyForm.hidden = false;
  document.getElementById("key-why").textContent = detail;
  document.getElementById("key-field").focus();
});

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(document.getElementById("key-field").value);
  start();
});

start();
