/** Starts the page: asks what is live, then sets up each part. */

import { tell, useKey } from "./api.js";
import { setUpGenerate } from "./generate.js";
import { setUpLook } from "./look.js";
import { setUpMap } from "./map.js";
import { liveModels } from "./models.js";
import { setUpPad } from "./pad.js";
import { setUpSliders } from "./sliders.js";

const trouble = document.getElementById("trouble");
const keyForm = document.getElementById("key");
const pad = setUpPad();
let isSetUp = false;

async function start() {
  try {
    const models = await liveModels();
    keyForm.hidden = true;
    tell(trouble, null);
    if (isSetUp) return;
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
