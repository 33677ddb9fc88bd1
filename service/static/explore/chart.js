/** How the map of two latents is painted: images behind, a label per test image, and where one stands. */

import { blank, paint, pen } from "../common/pixels.js";

// Ten light colours that most kinds of colour blindness tell apart on black (after Paul Tol's "light" scheme). They
// are a help only: every point is drawn as its label.
const COLOURS = ["#77aadd", "#ffaabb", "#44bb99", "#eedd88", "#ee8866", "#99ddff", "#bbcc33", "#dddddd", "#cc99dd", "#aaaa00"];
const SIDE = 560; // pixels of the canvas; the page scales it
const LETTER = 2; // longer labels than that are drawn as dots
const CELL_SHADE = 0.45; // of the images behind the points

/** The colour of the i-th label. */
export function colourOf(i) {
  return COLOURS[i % COLOURS.length];
}

/** The part of the space that is shown: all examples and a margin, or three deviations around the mean. */
export function boundsOf({ mean, std }, points) {
  return [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    const [low, high] = values.length
      ? [Math.min(...values), Math.max(...values)]
      : [mean[axis] - 3 * std[axis], mean[axis] + 3 * std[axis]];
    const margin = 0.06 * (high - low || 1);
    return [low - margin, high + margin];
  });
}

/** A square canvas as a window on the space. */
export class Chart {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number[][]} bounds Low and high of both axes. The second axis points up.
   * @param {{labels: string[], latents: number[][]}} examples
   * @param {string[]} labels All of them, in order.
   */
  constructor(canvas, bounds, examples, labels) {
    this.canvas = canvas;
    this.bounds = bounds;
    this.examples = examples;
    this.labels = labels;
    this.hidden = new Set();
    this.backdrop = null;
    canvas.width = SIDE;
    canvas.height = SIDE;
  }

  toPixel(z) {
    const [x, y] = this.bounds.map(([low, high], axis) => (z[axis] - low) / (high - low));
    return [x * SIDE, (1 - y) * SIDE];
  }

  /** The latents under a place on the page. */
  toLatent(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const places = [(clientX - box.left) / box.width, 1 - (clientY - box.top) / box.height];
    return this.bounds.map(([low, high], axis) => low + Math.min(1, Math.max(0, places[axis])) * (high - low));
  }

  /** The middles of cells x cells squares, row by row from the top: what to decode for the images behind. */
  cells(cells) {
    const middle = (axis, i) => this.bounds[axis][0] + ((i + 0.5) / cells) * (this.bounds[axis][1] - this.bounds[axis][0]);
    return Array.from({ length: cells * cells }, (_, i) => [
      middle(0, i % cells),
      middle(1, cells - 1 - Math.floor(i / cells)),
    ]);
  }

  /** Puts images behind the points: an array (cells * cells, C, H, W). */
  setBackdrop(images, cells) {
    this.backdrop = blank(SIDE, SIDE);
    const context = pen(this.backdrop);
    const cell = blank(1, 1);
    const size = images.shape.slice(1).reduce((a, b) => a * b, 1);
    for (let i = 0; i < cells * cells; i += 1) {
      paint(cell, images, i * size);
      const [x, y] = [i % cells, Math.floor(i / cells)];
      context.drawImage(cell, (x * SIDE) / cells, (y * SIDE) / cells, SIDE / cells, SIDE / cells);
    }
  }

  /** Paints all of it. */
  draw(here, hasBackdrop) {
    const context = this.canvas.getContext("2d");
    context.globalAlpha = 1;
    context.fillStyle = "#101014";
    context.fillRect(0, 0, SIDE, SIDE);
    if (hasBackdrop && this.backdrop) {
      context.globalAlpha = CELL_SHADE;
      context.drawImage(this.backdrop, 0, 0);
      context.globalAlpha = 1;
    }
    context.font = "600 15px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "#101014";
    this.examples.latents.forEach((z, i) => this.drawPoint(context, z, this.examples.labels[i]));
    drawCross(context, this.toPixel(here));
  }

  drawPoint(context, z, label) {
    if (this.hidden.has(label)) return;
    const [x, y] = this.toPixel(z);
    context.fillStyle = colourOf(this.labels.indexOf(label));
    if (label.length <= LETTER) {
      context.strokeText(label, x, y);
      context.fillText(label, x, y);
      return;
    }
    context.beginPath();
    context.arc(x, y, 4, 0, 2 * Math.PI);
    context.fill();
  }
}

function drawCross(context, [x, y]) {
  for (const [colour, width] of [["#101014", 6], ["#ffffff", 2.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, 13, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 7 * dx, y + 7 * dy);
      context.lineTo(x + 20 * dx, y + 20 * dy);
    }
    context.stroke();
  }
}
