/** The picture of a model's card. */

import { call } from "./api.js";

/** Shows it in an <img>, through a request, as an address alone would not carry the key. Removes the <img> if there is none. */
export async function showPreview(img, model) {
  try {
    const path = `models/${encodeURIComponent(model.name)}/preview`;
    const response = await call(path, { query: { version: model.version } });
    img.src = URL.createObjectURL(await response.blob());
  } catch {
    img.remove(); // all else is there without it
  }
}
