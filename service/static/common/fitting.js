/** Which model was made for pictures like these, and why it is proposed. */

const SMALL = 64; // pixels a side: models below learnt icons or digits, not photographs
const MOST_TIMES_LARGER = 4; // for those small models
const AS_GOOD = 0.5; // difference of distances that says nothing

/**
 * How a picture is seen by the models.
 *
 * @typedef {{width: number, height: number, isColour: boolean}} Look
 */

/** "colour, 512x512 pixels". */
export function sayLook({ width, height, isColour }) {
  return `${isColour ? "colour" : "grey"}, ${width}x${height} pixels`;
}

/** What a model takes, as {@link sayLook} says it. */
export function sayInput({ channels, height, width }) {
  const kind = channels === 3 ? "colour" : "grey";
  return height ? `${kind}, ${width}x${height} pixels` : `${kind}, any size`;
}

/**
 * Why a model does not fit a picture; "" if it does.
 *
 * @param {{input: {channels: number, height: number?, width: number?}}} model
 * @param {Look} look
 */
export function misfit({ input }, look) {
  const side = Math.max(input.height ?? 0, input.width ?? 0);
  const own = Math.max(look.width, look.height);
  if (side && side < SMALL && own > MOST_TIMES_LARGER * side) {
    return `it was trained on pictures of ${input.width}x${input.height} pixels, and this one has ${look.width}x${look.height}`;
  }
  if (side && own < side / 4) return `it was trained on pictures of ${input.width}x${input.height} pixels, and this one has only ${look.width}x${look.height}`;
  if (input.channels === 1 && look.isColour) return "it was trained on grey pictures, and this one is in colour";
  return "";
}

/** Larger for a worse fit: other channels, another shape, another size. Only models without a misfit are compared. */
function distance({ input }, look) {
  const channels = (input.channels === 3) === look.isColour ? 0 : 10;
  if (!input.height) return channels;
  const size = Math.abs(Math.log2(Math.max(look.width, look.height) / Math.max(input.width, input.height)));
  const shape = Math.abs(Math.log2((look.width / look.height) * (input.height / input.width)));
  return channels + size / 4 + shape;
}

/** The models that fit a picture best: all that are as good as the first one. */
export function bestFor(models, look) {
  const fitting = models
    .filter((model) => !misfit(model, look))
    .sort((a, b) => distance(a, look) - distance(b, look) || a.name.localeCompare(b.name));
  return fitting.filter((model) => distance(model, look) <= distance(fitting[0], look) + AS_GOOD);
}

/**
 * Looks at a picture: its size, and whether it has colour. Undefined where the browser cannot read it.
 *
 * @param {Blob | HTMLCanvasElement} source
 * @returns {Promise<Look | undefined>}
 */
export async function lookAt(source) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(source);
  } catch {
    return undefined;
  }
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SMALL; // a small copy has as much colour
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, SMALL, SMALL);
  const { data } = context.getImageData(0, 0, SMALL, SMALL);
  let isColour = false;
  for (let i = 0; i < data.length && !isColour; i += 4) {
    isColour = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 12;
  }
  const look = { width: bitmap.width, height: bitmap.height, isColour };
  bitmap.close();
  return look;
}
