/** Two pictures on top of each other, with a divider between them: both are zoomed and moved as one. */

const STEP = 0.12; // of the view, per arrow key
const ZOOM = 1.5; // per button or key
const LARGEST = 16; // screen pixels of one picture pixel

/**
 * @returns {{show: (before: string?, after: string?) => Promise<void>, clear: () => void}} `show` takes addresses of
 *     pictures, either of which may be missing, and keeps the place where the sizes are as before.
 */
export function setUpCompare() {
  const view = document.getElementById("compare");
  const [before, after] = [".before img", ".after img"].map((what) => view.querySelector(what));
  const [layer, divider] = [".after", ".divider"].map((what) => view.querySelector(what));
  const tags = [".tag-before", ".tag-after"].map((what) => view.querySelector(what));
  const split = document.getElementById("split");
  const pointers = new Map();
  let size = null; // of the larger picture, in its pixels
  let place = { scale: 1, x: 0, y: 0 }; // CSS pixels per picture pixel, and the picture's corner
  let isFitted = true;

  const box = () => [view.clientWidth, view.clientHeight];
  const real = () => 1 / devicePixelRatio; // one picture pixel on one screen pixel
  const fitting = () => Math.min(box()[0] / size.width, box()[1] / size.height, Math.max(1, real()) * 4);

  function draw() {
    if (!size) return;
    const [width, height] = box();
    const [w, h] = [size.width * place.scale, size.height * place.scale];
    const kept = (corner, room, length) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, corner)));
    place.x = kept(place.x, width, w);
    place.y = kept(place.y, height, h);
    for (const img of [before, after]) {
      img.style.width = `${w}px`;
      img.style.height = `${h}px`;
      img.style.transform = `translate(${place.x}px, ${place.y}px)`;
      img.style.imageRendering = place.scale >= 3 * real() ? "pixelated" : "auto";
    }
    view.style.touchAction = isFitted ? "pan-y" : "none";
    const at = (Number(split.value) / 100) * width;
    layer.style.clipPath = `inset(0 0 0 ${at}px)`;
    divider.style.transform = `translateX(${at}px)`;
  }

  function fit() {
    isFitted = true;
    place.scale = fitting();
    draw();
  }

  /** Zooms to a scale, with the picture under the point (x, y) of the view staying there. */
  function zoom(scale, x = box()[0] / 2, y = box()[1] / 2) {
    if (!size) return;
    const next = Math.min(LARGEST, Math.max(fitting(), scale));
    const factor = next / place.scale;
    isFitted = next === fitting();
    place = { scale: next, x: x - (x - place.x) * factor, y: y - (y - place.y) * factor };
    draw();
  }

  function move(dx, dy) {
    place.x += dx;
    place.y += dy;
    draw();
  }

  function within(event) {
    const { left, top } = view.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  function slide(x) {
    split.value = String((100 * x) / box()[0]);
    draw();
  }

  view.addEventListener("pointerdown", (event) => {
    if (!size || event.button !== 0) return;
    const [x, y] = within(event);
    const at = (Number(split.value) / 100) * box()[0];
    const isDivider = !divider.hidden && (event.target === divider || Math.abs(x - at) < 14);
    pointers.set(event.pointerId, { x, y, isDivider });
    view.setPointerCapture(event.pointerId);
  });
  view.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const [x, y] = within(event);
    if (pointers.size === 2) {
      const other = [...pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const spread = Math.hypot(x - other.x, y - other.y) / (Math.hypot(last.x - other.x, last.y - other.y) || 1);
      zoom(place.scale * spread, (x + other.x) / 2, (y + other.y) / 2);
    } else if (last.isDivider || isFitted) {
      slide(x);
    } else {
      move(x - last.x, y - last.y);
    }
    pointers.set(event.pointerId, { ...last, x, y });
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => pointers.delete(event.pointerId));
  view.addEventListener(
    "wheel",
    (event) => {
      if (!size || !(event.ctrlKey || document.activeElement === view)) return; // else the page scrolls
      event.preventDefault();
      zoom(place.scale * Math.exp(-event.deltaY / 300), ...within(event));
    },
    { passive: false },
  );
  view.addEventListener("dblclick", (event) => (isFitted ? zoom(real(), ...within(event)) : fit()));
  view.addEventListener("keydown", (event) => {
    const [width, height] = box();
    const action = {
      ArrowLeft: () => move(STEP * width, 0),
      ArrowRight: () => move(-STEP * width, 0),
      ArrowUp: () => move(0, STEP * height),
      ArrowDown: () => move(0, -STEP * height),
      "+": () => zoom(place.scale * ZOOM),
      "=": () => zoom(place.scale * ZOOM),
      "-": () => zoom(place.scale / ZOOM),
      0: fit,
      1: () => zoom(real()),
    }[event.key];
    if (!action || !size || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    action();
  });
  split.addEventListener("input", draw);
  new ResizeObserver(() => size && (isFitted ? fit() : draw())).observe(view);
  const onClick = { "zoom-fit": fit, "zoom-real": () => zoom(real()), "zoom-in": () => zoom(place.scale * ZOOM), "zoom-out": () => zoom(place.scale / ZOOM) };
  for (const [id, action] of Object.entries(onClick)) document.getElementById(id).addEventListener("click", () => size && action());

  function clear() {
    size = null;
    for (const part of [before, after, divider, ...tags]) part.hidden = true;
    for (const img of [before, after]) img.removeAttribute("src");
    split.disabled = true;
  }

  let shows = 0;

  async function show(beforeUrl, afterUrl) {
    shows += 1;
    const own = shows;
    const urls = [beforeUrl, afterUrl];
    for (const [i, img] of [before, after].entries()) {
      if (img.src !== urls[i]) {
        img.hidden = true; // never another picture's
        if (urls[i]) img.src = urls[i];
        else img.removeAttribute("src");
      }
    }
    await Promise.all([before, after].filter((_, i) => urls[i]).map((img) => img.decode().catch(() => undefined)));
    if (own !== shows) return;
    const largest = afterUrl ? after : before;
    if (!largest.naturalWidth) return;
    const next = { width: largest.naturalWidth, height: largest.naturalHeight };
    const ratio = size ? size.width / next.width : 1;
    const isSameShape = size && Math.abs(size.height / next.height - ratio) < 0.01;
    size = next;
    for (const [i, img] of [before, after].entries()) img.hidden = !urls[i];
    const isPair = Boolean(beforeUrl && afterUrl);
    for (const part of [divider, ...tags]) part.hidden = !isPair;
    split.disabled = !isPair;
    if (isSameShape && !isFitted) {
      place.scale *= ratio; // the same part of the picture stays in view
      draw();
    } else {
      fit();
    }
  }

  return { show, clear };
}
