/** Marking where a defect is, over a picture. */

const COLOUR = "#00e5ff";
const THICKNESS = 0.04; // of the picture's longer side

/**
 * @param {HTMLCanvasElement} canvas Lies over the picture.
 * @returns {{start: (size: {width: number, height: number}) => void, stop: () => void, fill: (boxes: object[]) => void,
 *     mask: () => Promise<Blob?>}} `mask` is as large as the picture, white where it was marked; null if nowhere.
 */
export function setUpBrush(canvas) {
  let last = null;
  let isMarked = false;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };

  function stroke(event) {
    const context = canvas.getContext("2d");
    Object.assign(context, { strokeStyle: COLOUR, lineCap: "round", lineWidth: Math.max(2, THICKNESS * Math.max(canvas.width, canvas.height)) });
    context.beginPath();
    context.moveTo(...last);
    last = place(event);
    context.lineTo(...last);
    context.stroke();
    isMarked = true;
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => last && stroke(event));
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      last = null;
    });
  }

  return {
    start({ width, height }) {
      [canvas.width, canvas.height] = [width, height]; // which empties it
      canvas.hidden = false;
      isMarked = false;
    },
    stop() {
      canvas.hidden = true;
      isMarked = false;
    },
    fill(boxes) {
      const context = canvas.getContext("2d");
      context.fillStyle = COLOUR;
      for (const { x, y, width, height } of boxes) context.fillRect(x, y, width, height);
      isMarked ||= boxes.length > 0;
    },
    async mask() {
      if (!isMarked || canvas.hidden) return null;
      const drawn = document.createElement("canvas");
      [drawn.width, drawn.height] = [canvas.width, canvas.height];
      const context = drawn.getContext("2d");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const { data } = pixels;
      for (let i = 0; i < data.length; i += 4) {
        data.fill(data[i + 3] ? 255 : 0, i, i + 3); // strokes have soft edges, masks have none
        data[i + 3] = 255;
      }
      context.putImageData(pixels, 0, 0);
      return new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
    },
  };
}
