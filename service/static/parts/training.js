/** The next version of a model: asked for, watched, compared with the one that is live, and approved. */

import { call, Problem, tell } from "../common/api.js";
import { CHANGED, keptOf, pathOf } from "./kept.js";

const AT_WORK = ["queued", "running", "approved"];
const NAMES = { calibrate: "Recalibration", fit: "Training" };
const WATCH_MS = 2000;
const LOOK_MS = 15_000; // for a worker that has come, or a training that somebody else has asked for
const SILENT_MS = 90_000;
const MOST_LOOKS = 60; // for a version that the service is still loading

/**
 * @param {(model: object) => Promise<boolean>} judgeWith Makes the newest version judge, once it is live.
 * @returns {{show: (model: object?) => void}}
 */
export function setUpTraining(judgeWith) {
  const root = document.getElementById("part-training");
  const [title, lead, here, absent, said, log, cards, problem] = [".panel-title", ".lead", ".with-worker", ".without-worker", ".said", ".log", ".two-cards", ".problem"].map((what) => root.querySelector(what));
  const [calibrate, fit, cancel, approve, discard, use] = ["calibrate", "fit", "cancel", "approve", "discard", "use"].map((id) => document.getElementById(`training-${id}`));
  const progress = root.querySelector("progress");
  let [model, kept, found, timer] = [null, null, null, 0];
  let carded = ""; // the training whose card is shown

  const path = (rest = "") => `${pathOf(model)}/training${rest}`;

  /** Looks again, now and later; only the newest look counts. */
  async function look() {
    clearTimeout(timer);
    const own = model;
    if (!own) return;
    try {
      if (!document.hidden && root.closest(".tab").checkVisibility()) {
        const [nowKept, { workers, trainings }] = await Promise.all([kept ?? keptOf(own), (await call(path())).json()]);
        const newest = trainings[0] ? await (await call(path(`/${trainings[0].id}`))).json() : null;
        if (own !== model) return;
        [kept, found] = [nowKept, { workers, training: newest }];
        draw();
      }
    } catch (error) {
      if (own !== model) return;
      root.hidden = error.status === 403; // a key for less has no use for all this
      tell(problem, error);
    }
    clearTimeout(timer);
    timer = setTimeout(look, AT_WORK.includes(found?.training?.state) ? WATCH_MS : LOOK_MS);
  }

  function draw() {
    const { workers, training } = found;
    root.hidden = !(kept.fine || kept.defects || training);
    title.textContent = `The next version of ${model.name}`;
    const isBusy = AT_WORK.includes(training?.state);
    lead.textContent = kept.fine
      ? `From ${kept.fine} ${kept.fine === 1 ? "picture" : "pictures"} marked as fine${kept.defects ? ` and ${kept.defects} as defects` : ""}. Recalibrate sets a new limit; Train on these trains a new detector.`
      : "Mark some ordinary pictures as fine first: the next version is made from them.";
    [here.hidden, absent.hidden] = [!workers.length || !kept.fine, Boolean(workers.length) || !kept.fine];
    for (const button of [calibrate, fit]) button.disabled = isBusy;
    for (const [work, code] of [["calibrate", "training-command-calibrate"], ["fit", "training-command-fit"]]) {
      const what = work === "calibrate" ? `calibrate ${model.name}` : `fit anomaly --name ${model.name} --data GOOD_PICTURES`;
      document.getElementById(code).textContent = `python -m training ${what} --feedback ${new URL(".", location.href).href.replace(/\/$/, "")}`;
    }
    said.textContent = training ? sentence(training) : "";
    tell(problem, null);
    progress.hidden = !isBusy;
    if (training?.share === null || training?.share === undefined) progress.removeAttribute("value");
    else progress.value = training.share;
    cancel.hidden = !["queued", "running"].includes(training?.state);
    log.closest("details").hidden = !training?.log;
    log.textContent = training?.log ?? "";
    use.hidden = !(training?.state === "live" && training.version > model.version);
    use.textContent = `Judge with ${model.name}/${training?.version}`;
    cards.hidden = training?.state !== "ready";
    if (cards.hidden) carded = "";
    else drawCards(training);
  }

  async function drawCards(training) {
    if (carded === training.id) return;
    carded = training.id;
    const [before, after] = cards.querySelectorAll("pre");
    cards.querySelector("h4").textContent = `${model.name}/${training.old_version}, the previous version`;
    after.textContent = training.card;
    before.textContent = "";
    const card = await call(`${pathOf(model)}/card`, { query: { version: training.old_version } });
    if (carded === training.id) before.textContent = await card.text();
  }

  function sentence({ work, state, worker, said: step, heard, version, problem: why }) {
    const what = NAMES[work];
    const silent = heard && state !== "queued" && Date.now() - Date.parse(heard) > SILENT_MS ? ` No report since ${new Date(heard).toLocaleTimeString()}; another worker will take over.` : "";
    return {
      queued: `${what}: waiting for a worker.`,
      running: `${what} on ${worker}: ${step || "begins"}.${silent}`,
      ready: `${what}: done. Compare the two cards, then approve or discard the new version.`,
      approved: `${what}: going live.${silent}`,
      live: `${what}: ${model.name}/${version} is live.`,
      failed: `${what} failed: ${why}`,
    }[state];
  }

  async function attempt(button, work) {
    button.disabled = true;
    let failure = null;
    try {
      await work();
    } catch (error) {
      failure = error;
    }
    button.disabled = false;
    await look();
    if (failure) tell(problem, failure);
  }

  const ask = (work) => () => call(path(), { query: { work }, method: "POST" });
  const change = (rest, method) => () => call(path(`/${found.training.id}${rest}`), { method });
  const onClick = [[calibrate, ask("calibrate")], [fit, ask("fit")], [cancel, change("", "DELETE")], [approve, change("/approve", "POST")], [discard, change("", "DELETE")]];
  for (const [button, work] of onClick) button.addEventListener("click", () => attempt(button, work));
  use.addEventListener("click", () =>
    attempt(use, async () => {
      for (let i = 0; !(await judgeWith(found.training)); i += 1) {
        if (i === MOST_LOOKS) throw new Problem("Not live yet", "the service has not loaded it; /health/ready says why");
        await new Promise((resolve) => setTimeout(resolve, WATCH_MS / 2));
      }
    }),
  );
  document.addEventListener(CHANGED, () => {
    kept = null;
    look();
  });
  document.addEventListener("visibilitychange", look);

  return {
    show(next) {
      if (next?.name === model?.name && next?.version === model?.version) return;
      [model, kept, found] = [next, null, null];
      root.hidden = true;
      look();
    },
  };
}
