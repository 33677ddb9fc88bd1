/** A mask for all pictures: what is white in it takes no part in the verdicts. */

import { isImage } from "../common/files.js";

/**
 * @param {() => void} onChange Called when another mask counts, or none.
 * @returns {{mask: () => File?, show: (isAble: boolean) => void}} `show` says whether the model can ignore pixels; the
 *     mask counts only if it can.
 */
export function setUpIgnore(onChange) {
  const root = document.getElementById("part-ignore");
  const [input, none, said] = ["input", "button", ".said"].map((what) => root.querySelector(what));
  const area = document.querySelector("#part-detail .ignored");
  const hint = said.textContent;
  let file = null;
  let isAble = false;

  const mask = () => (isAble ? file : null);

  function set(chosen) {
    file = chosen;
    none.hidden = !file;
    said.textContent = file ? `What is white in ${file.name} takes no part in the verdicts.` : hint;
    URL.revokeObjectURL(area.dataset.url);
    area.dataset.url = file ? URL.createObjectURL(file) : "";
    area.style.maskImage = `url("${area.dataset.url}")`;
    area.hidden = !mask();
    onChange();
  }

  input.addEventListener("change", (event) => {
    event.stopPropagation(); // a mask is no picture to judge
    const chosen = input.files[0];
    input.value = ""; // the same file can be opened again
    if (chosen && isImage(chosen)) set(chosen);
    else if (chosen) said.textContent = `${chosen.name} is no picture.`;
  });
  none.addEventListener("click", () => set(null));

  function show(isPossible) {
    isAble = isPossible;
    root.hidden = !isAble;
    area.hidden = !mask();
  }

  return { mask, show };
}
