/** The list of photographs, with how far each is. */


/**
 * @param {{select: (photo: object) => void, remove: (photos: object[]) => void}} actions
 * @returns {{draw: (photos: object[], current: object?) => void}}
 */
export function setUpShelf({ select, remove }) {
  const list = document.getElementById("shelf");
  const title = document.getElementById("shelf-title");
  const itemByPhoto = new Map();

  function itemOf(photo) {
    const item = document.createElement("li");
    const choose = document.createElement("button");
    choose.type = "button";
    choose.className = "thumb";
    const picture = document.createElement("img");
    picture.alt = "";
    picture.loading = "lazy";
    picture.addEventListener("error", () => picture.removeAttribute("src"));
    const name = document.createElement("span");
    name.textContent = photo.name;
    const state = document.createElement("span");
    state.className = "quiet";
    choose.append(picture, name, state);
    choose.addEventListener("click", () => select(photo));
    const away = document.createElement("button");
    away.type = "button";
    away.textContent = "×";
    away.ariaLabel = `Remove ${photo.name}`;
    away.addEventListener("click", () => remove([photo]));
    item.append(choose, away);
    return { item, choose, picture, state, url: "" };
  }

  function draw(photos, current) {
    for (const photo of itemByPhoto.keys()) if (!photos.includes(photo)) itemByPhoto.delete(photo);
    for (const photo of photos) {
      if (!itemByPhoto.has(photo)) itemByPhoto.set(photo, itemOf(photo));
      const shown = itemByPhoto.get(photo);
      const { choose, picture, state } = shown;
      choose.setAttribute("aria-current", String(photo === current));
      if (shown.url !== photo.url) {
        shown.url = photo.url;
        picture.src = photo.url;
      }
      state.textContent = photo.state;
    }
    const items = photos.map((photo) => itemByPhoto.get(photo).item);
    if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) list.replaceChildren(...items);
    const done = photos.filter(({ state }) => state === "done").length;
    title.textContent = photos.length === 1 ? "1 picture" : `${done} of ${photos.length} pictures done`;
  }

  return { draw };
}
