/** Starts the page: shows the tab that the address names, asks which models are live, and sets up each tab when it is first opened. */

import { Problem, tell, useKey } from "./common/api.js";
import "./common/files.js"; // at once: files that are dropped before a tab is ready wait for it
import { liveModels } from "./common/models.js";

const RETRY_MS = 2000;
const LOAD_BY_TAB = {
  photo: () => import("./photo/photo.js"),
  parts: () => import("./parts/parts.js"),
  explore: () => import("./explore/explore.js"),
};

const trouble = document.getElementById("trouble");
const keyForm = document.getElementById("key");
const tabs = [...document.querySelectorAll(".tab")];
const settingUp = new Set(); // tabs whose modules were asked for
let models = null; // until the service has told

/** The tab that holds the element named after the # of the address; the first one if there is none. */
function chosenTab() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  return target?.closest(".tab") ?? tabs[0];
}

function showTab() {
  const chosen = chosenTab();
  for (const tab of tabs) tab.hidden = tab !== chosen;
  for (const link of document.querySelectorAll("#tabs a")) {
    if (link.hash === `#${chosen.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `Hourglass: ${chosen.dataset.title}`;
  const part = document.getElementById(location.hash.slice(1));
  if (part && part !== chosen) part.scrollIntoView();
  setUp(chosen.id);
}

async function setUp(tab) {
  const module = LOAD_BY_TAB[tab](); // loads while the models are asked for
  if (!models || settingUp.has(tab)) return;
  settingUp.add(tab);
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
    await setUp(chosenTab().id);
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

addEventListener("hashchange", showTab);
showTab();
start();
