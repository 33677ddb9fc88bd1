/** What people have said of a model's pictures, as far as it is kept. */

import { call } from "../common/api.js";

/** The event on the document that says that there is more of it, or less. */
export const CHANGED = "feedback-changed";

export function pathOf(model) {
  return `models/${encodeURIComponent(model.name)}`;
}

/** @returns {Promise<{isKept: boolean, fine: number, defects: number}>} */
export async function keptOf(model) {
  const path = `${pathOf(model)}/feedback?limit=1`;
  const { is_kept: isKept, fine, defect: defects } = await (await call(path, { accept: "application/json" })).json();
  return { isKept, fine, defects };
}
