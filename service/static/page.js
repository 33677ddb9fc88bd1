/** Starts the page: shows the door that the address names, asks which models are live, and sets up each door when it is first opened. */

import { Problem, tell, useKey } from "./common/api.js";
import "./common/files.js"; // at once: files that are dropped before a door is ready wait for it
import { liveModels } from "./common/models.js";

const RETRY_MS = 2000;
const LOAD_BY_DOOR = {
  photo: () => import("./photo/photo.js"),
  parts: () => import("./parts/parts.js"),
  explore: () => import("./explore/explore.js"),
};

const trouble = document.getElementById("trouble");
const keyForm = document.getElementById("key");
const doors = [...document.querySelectorAll(".door")];
const settingUp = new Set(); // doors whose modules were asked for
let models = null; // until the service has told

/** The door that holds the element named after the # of the address; the first one if there is none. */
function chosenDoor() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  return target?.closest(".door") ?? doors[0];
}

function showDoor() {
  const chosen = chosenDoor();
  for (const door of doors) door.hidden = door !== chosen;
  for (const link of document.querySelectorAll("#doors a")) {
    if (link.hash === `#${chosen.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `Hourglass: ${chosen.dataset.title}`;
  const part = document.getElementById(location.hash.slice(1));
  if (part && part !== chosen) part.scrollIntoView();
  setUp(chosen.id);
}

async function setUp(door) {
  const module = LOAD_BY_DOOR[door](); // loads while the models are asked for
  if (!models || settingUp.has(door)) return;
  settingUp.add(door);
  try {
    await (await module).setUp(models);
  } catch (error) {
    tell(trouble, error);
  }
}

async function start() {
  try {
    const live = await liveModels();
    keyForm.hidden = true;
    if (!live.length) {
      setTimeout(start, RETRY_MS);
      throw new Problem("No model is live yet", "this page checks again every few seconds");
    }
    tell(trouble, null);
    models ??= live;
    await setUp(chosenDoor().id);
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

addEventListener("hashchange", showDoor);
showDoor();
start();
