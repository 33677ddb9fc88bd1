/** The tab "Explore": what models make of small images, and what lies between them. */

import { setUpBetween } from "./between.js";
import { showModels } from "./cards.js";
import { setUpGenerate } from "./generate.js";
import { setUpLook } from "./look.js";
import { setUpMap } from "./map.js";
import { setUpPad } from "./pad.js";
import { setUpSliders } from "./sliders.js";

export async function setUp(models) {
  showModels(models);
  const pad = await setUpPad();
  setUpLook(pad, models);
  await Promise.all([
    setUpMap(models),
    setUpSliders(pad, models),
    setUpBetween(pad, models),
    setUpGenerate(pad, models),
  ]);
}
