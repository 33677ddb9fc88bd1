/** The image to look at: drawn by hand, one of the samples, or a file. */

import { Problem, tell } from "../common/api.js";
import { onFiles } from "../common/files.js";
import { blank, pen, readImage } from "../common/pixels.js";

const INK = 22; // of 280 pixels: as thick as MNIST's strokes
const SIDE = 28; // pixels of a drawing, as the models get it
const FIRST_SAMPLE = 3;
const BOX = 20; // the drawing without its margin, as in MNIST

/**
 * @returns {Promise<{image: HTMLCanvasElement, samples: HTMLCanvasElement[], isDrawing: boolean, onChange: Function[],
 *     set: Function}>} The image as it is, the sample digits, who wants to know when the image changes (called with
 *     whether it is another one), and a way to put one there.
 */
export async function setUpPad() {
  const canvas = document.getElementById("pad");
  const trouble = document.getElementById("pad-trouble");
  const pad = { image: blank(SIDE, SIDE), samples: [], isDrawing: false, onChange: [], set };

  function changed(isOther) {
    pad.onChange.forEach((listener) => listener(isOther));
  }

  /** Puts an image there. */
  function set(image) {
    pad.image = image;
    pad.isDrawing = false;
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const context = clear();
    context.imageSmoothingEnabled = scale < 1;
    const [width, height] = [image.width * scale, image.height * scale];
    context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    tell(trouble, null);
    changed(true);
  }

  function clear() {
    const context = pen(canvas);
    context.fillStyle = "black";
    context.fillRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  async function open(file) {
    try {
      set(await readImage(file));
    } catch {
      tell(trouble, new Problem("Not a picture", `the browser cannot read ${file.name || "this"}; try PNG, JPEG or WebP`));
    }
  }

  setUpDrawing(canvas, {
    begin() {
      if (!pad.isDrawing) clear();
      pad.isDrawing = true;
    },
    drawn() {
      pad.image = centred(canvas);
      changed(false);
    },
  });
  document.getElementById("clear").addEventListener("click", () => {
    clear();
    pad.isDrawing = true;
    pad.image = centred(canvas);
    tell(trouble, null);
    changed(true);
  });
  onFiles(document.getElementById("explore"), ([file]) => open(file));
  pad.samples = await readSamples();
  showSamples(pad.samples, set);
  if (pad.samples.length) set(pad.samples[FIRST_SAMPLE]);
  return pad;
}

function setUpDrawing(canvas, { begin, drawn }) {
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    begin();
    last = place(event);
    stroke(event);
  });
  function stroke(event) {
    const context = pen(canvas);
    context.strokeStyle = "white";
    context.lineWidth = INK;
    context.lineCap = "round";
    context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last);
    for (const moved of event.getCoalescedEvents?.() ?? []) context.lineTo(...place(moved));
    last = place(event);
    context.lineTo(...last);
    context.stroke();
    drawn();
  }
  canvas.addEventListener("pointermove", (event) => {
    if (last) stroke(event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      last = null;
    });
  }
}

/** The ten digits of the sheet; none where it cannot be loaded. */
async function readSamples() {
  const sheet = new Image();
  sheet.src = "page/explore/samples.png";
  try {
    await sheet.decode();
  } catch {
    return [];
  }
  return Array.from({ length: 10 }, (_, digit) => {
    const image = blank(SIDE, SIDE);
    pen(image).drawImage(sheet, -SIDE * digit, 0);
    return image;
  });
}

function showSamples(samples, set) {
  const buttons = samples.map((image, digit) => {
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = `Sample ${digit}`;
    button.append(image);
    button.addEventListener("click", () => set(image));
    return button;
  });
  document.getElementById("samples").replaceChildren(...buttons);
}

/** A drawing as MNIST has its digits: its longer side is 20 pixels, its centre of mass in the middle of 28x28. */
function centred(canvas) {
  const { data, width, height } = pen(canvas).getImageData(0, 0, canvas.width, canvas.height);
  const result = blank(SIDE, SIDE);
  const context = pen(result);
  context.fillStyle = "black";
  context.fillRect(0, 0, SIDE, SIDE);
  let [left, top, right, bottom, mass, x, y] = [width, height, 0, 0, 0, 0, 0];
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] === 0) continue;
    const [column, row] = [(i / 4) % width, Math.floor(i / 4 / width)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    mass += data[i];
    x += data[i] * column;
    y += data[i] * row;
  }
  if (mass === 0) return result;
  const scale = BOX / (Math.max(right - left, bottom - top) + 1);
  context.imageSmoothingQuality = "high";
  const corner = [SIDE / 2 - (scale * x) / mass, SIDE / 2 - (scale * y) / mass];
  context.drawImage(canvas, ...corner, width * scale, height * scale);
  return result;
}
