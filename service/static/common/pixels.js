/** Canvases, PNG files, arrays of floats, and noise. */

const LONGEST_SIDE = 1024; // pixels; larger pictures are made smaller for this page

/** An empty canvas. */
export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** The pixels of a canvas, for reading and writing. */
export function pen(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** The image of a file that the browser can read, on a canvas of at most 1024 pixels a side. */
export async function readImage(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = blank(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = pen(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** The canvas as a PNG file. */
export function toPng(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** A copy with Gaussian noise of that mean, the same for the same seed. Grey stays grey. All in 0-255 units. */
export function withNoise(canvas, { sigma, mean, seed }) {
  const copy = blank(canvas.width, canvas.height);
  const context = pen(copy);
  const image = pen(canvas).getImageData(0, 0, canvas.width, canvas.height);
  if (sigma > 0) spoil(image.data, { sigma, mean, seed });
  context.putImageData(image, 0, 0);
  return copy;
}

function spoil(data, { sigma, mean, seed }) {
  const random = mulberry32(seed);
  const isGrey = data.every((value, i) => i % 4 === 3 || value === data[i - (i % 4)]);
  for (let i = 0; i < data.length; i += 4) {
    let e = mean + sigma * gaussian(random);
    for (let c = 0; c < 3; c += 1) {
      if (c > 0 && !isGrey) e = mean + sigma * gaussian(random);
      data[i + c] += e; // the array clamps and rounds
    }
  }
}

/** Numbers in (0, 1), the same for the same seed: "mulberry32" by Tommy Ettinger, in the public domain. */
export function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** One standard normal number (Box and Muller, 1958). */
export function gaussian(random) {
  return Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
}

/** 10 log10(255^2 / MSE) over the colours of two canvases of one size. */
export function psnrDb(a, b) {
  const x = pen(a).getImageData(0, 0, a.width, a.height).data;
  const y = pen(b).getImageData(0, 0, a.width, a.height).data;
  let sum = 0;
  for (let i = 0; i < x.length; i += 1) if (i % 4 !== 3) sum += (x[i] - y[i]) ** 2;
  return 10 * Math.log10((255 ** 2 * x.length * 0.75) / sum);
}

/** An array of float32 from an NPY file: its shape and its numbers. */
export async function readNpy(response) {
  const buffer = await response.arrayBuffer();
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((part) => part.trim()).map(Number);
  return { shape, data: new Float32Array(buffer.slice(10 + length)) };
}

/** Draws floats in [0, 1], (C, H, W) at `offset`, on a canvas, which takes their size. */
export function paint(canvas, { shape, data }, offset = 0) {
  const [channels, height, width] = shape.slice(-3);
  canvas.width = width;
  canvas.height = height;
  const context = pen(canvas);
  const image = context.createImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i += 1) {
    for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = 255 * data[offset + (channels === 3 ? c * plane : 0) + i];
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Shows a file in an <img>, and lets go of the one before. */
export function show(img, blob) {
  const before = img.src;
  img.src = URL.createObjectURL(blob);
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}
