/** Files that are opened, dropped or pasted, for the tab that is shown. */

const listenerByTab = new Map();
const waitingByTab = new Map(); // files that came before the tab was set up

/**
 * Calls `listener` with the files that reach a tab: by its file inputs, a drop anywhere, or a paste.
 *
 * @param {HTMLElement} tab
 * @param {(files: File[]) => void} listener
 */
export function onFiles(tab, listener) {
  listenerByTab.set(tab, listener);
  const waiting = waitingByTab.get(tab);
  waitingByTab.delete(tab);
  if (waiting) listener(waiting);
}

function openTab() {
  return document.querySelector(".tab:not([hidden])");
}

function hand(files, tab = openTab()) {
  if (!files.length) return;
  const listener = listenerByTab.get(tab);
  if (listener) listener(files);
  else waitingByTab.set(tab, [...(waitingByTab.get(tab) ?? []), ...files]);
}

document.addEventListener("change", ({ target }) => {
  if (target.type !== "file") return;
  const files = [...target.files];
  target.value = ""; // the same file can be opened again
  hand(files, target.closest(".tab"));
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  openTab().classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) openTab().classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  openTab().classList.remove("over");
  // Entries are gone once the event is over, so they are all taken first.
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return hand([...event.dataTransfer.files]);
  return hand((await Promise.all(entries.map(filesBelow))).flat());
});
document.addEventListener("paste", (event) => hand([...event.clipboardData.files]));

/** All files of a dropped entry: itself, or what lies in a folder at any depth. */
async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const below = [];
  for (;;) {
    // a browser gives at most 100 entries at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(below.map(filesBelow))).flat();
    below.push(...some);
  }
}

const IMAGE_NAME = /\.(png|jpe?g|webp|gif|bmp|tiff?|avif|hei[cf])$/i;

/** Whether the service may be able to read a file, by its type or name. */
export function isImage(file) {
  return file.type.startsWith("image/") || IMAGE_NAME.test(file.name);
}

/** Offers a blob as a download. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the download has begun by then
}
