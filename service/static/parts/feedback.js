/** What a person says of a picture: fine, or a defect, perhaps with a mark. Kept by the service for the next version. */

import { call, tell } from "../common/api.js";
import { save } from "../common/files.js";
import { setUpBrush } from "./brush.js";
import { CHANGED, keptOf, pathOf } from "./kept.js";

const NAME = "hourglass-who";

/**
 * @returns {{show: (part: object?, model: object?) => void}}
 */
export function setUpFeedback() {
  const root = document.getElementById("part-feedback");
  const [off, on, said, kept, problem] = [".off", ".on", ".given", ".given-so-far", ".problem"].map((what) => root.querySelector(what));
  const [mark, regions, who] = ["mark", "mark-regions", "who"].map((id) => document.getElementById(`feedback-${id}`));
  const buttons = [...root.querySelectorAll("button")];
  const brush = setUpBrush(document.getElementById("brush"));
  let [part, model, labelShown] = [null, null, ""];
  who.value = localStorage.getItem(NAME) ?? "";

  const path = () => `${pathOf(model)}/feedback`;

  async function attempt(work) {
    for (const button of buttons) button.disabled = true;
    try {
      await work();
      tell(problem, null);
    } catch (error) {
      tell(problem, error);
    }
    for (const button of buttons) button.disabled = false;
  }

  async function refresh() {
    const { isKept, fine, defects } = await keptOf(model);
    [off.hidden, on.hidden] = [isKept, !isKept];
    kept.hidden = !(fine || defects);
    kept.querySelector("span").textContent = `Kept for ${model.name}: ${fine} fine, ${defects} with a defect.`;
  }

  async function give(verdict) {
    const about = part;
    await attempt(async () => {
      const mask = verdict === "defect" ? await brush.mask() : null;
      let body = about.file;
      if (mask) {
        body = new FormData();
        body.append("file", about.file);
        body.append("mask", mask, "mask.png");
      }
      const name = who.value.trim();
      localStorage.setItem(NAME, name);
      const query = { verdict, version: model.version, who: name };
      await call(path(), { query, body, type: mask ? undefined : "application/octet-stream" });
      about.opinion = `Marked as ${verdict === "fine" ? "fine" : "a defect"}${mask ? ", with a mask" : ""}. Stored for the next version of ${model.name}.`;
      await refresh();
      document.dispatchEvent(new Event(CHANGED));
      if (about === part) draw();
    });
  }

  function draw() {
    said.textContent = part.opinion ?? "";
    if (!mark.checked) brush.stop();
  }

  mark.addEventListener("change", () => {
    if (mark.checked && part.look) brush.start(part.look);
    else brush.stop();
    regions.hidden = !mark.checked;
  });
  regions.addEventListener("click", () => brush.fill(part.detail?.answer.regions ?? []));
  document.getElementById("feedback-fine").addEventListener("click", () => give("fine"));
  document.getElementById("feedback-defect").addEventListener("click", () => give("defect"));
  document.getElementById("feedback-export").addEventListener("click", () =>
    attempt(async () => save(await (await call(path(), { accept: "application/zip" })).blob(), `${model.name}-feedback.zip`)),
  );
  document.getElementById("feedback-delete").addEventListener("click", () => {
    if (confirm(`Delete all feedback on ${model.name}?`)) {
      attempt(async () => {
        await call(path(), { method: "DELETE" });
        await refresh();
        document.dispatchEvent(new Event(CHANGED));
      });
    }
  });

  return {
    show(next, judge) {
      root.hidden = !(next && judge);
      if (root.hidden) return;
      if (next !== part) {
        mark.checked = false;
        regions.hidden = true;
        brush.stop();
      }
      [part, model] = [next, judge];
      mark.parentElement.hidden = !part.look; // there is nothing to mark on
      draw();
      if (labelShown !== model.name) {
        labelShown = model.name;
        [off.hidden, on.hidden, kept.hidden] = [true, true, true];
        attempt(refresh);
      }
    },
  };
}
