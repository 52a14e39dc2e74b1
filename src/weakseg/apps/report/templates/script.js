const dialog = document.querySelector("dialog");
const stage = dialog.querySelector("div");
for (const panel of document.querySelectorAll(".panel"))
  panel.addEventListener("click", () => {
    const picture = panel.querySelector("svg").cloneNode(true);
    picture.querySelector("[id]")?.removeAttribute("id");
    stage.replaceChildren(picture);
    const { width, height } = picture.viewBox.baseVal;
    stage.style.setProperty("--aspect", width / height);
    dialog.querySelector("p").textContent =
      panel.closest(".card").querySelector("h3").textContent + " · " + panel.textContent;
    dialog.showModal();
  });
dialog.addEventListener("click", () => dialog.close());
for (const filter of document.querySelectorAll(".filter")) {
  filter.hidden = false;
  const buttons = filter.querySelectorAll("button");
  for (const button of buttons)
    button.addEventListener("click", () => {
      for (const other of buttons) other.ariaPressed = String(other === button);
      for (const card of filter.nextElementSibling.children)
        card.hidden = button.dataset.kind !== "" && !card.dataset.kinds.split(" ").includes(button.dataset.kind);
    });
}
const viewer = document.querySelector(".viewer");
if (viewer) {
  const one = selector => viewer.querySelector(selector);
  const items = [...viewer.querySelectorAll(".strip li")];
  const layers = one(".layers"), opacity = one(".opacity input"), form = one(".narrow");
  let now = null, wanted = "mask";
  const seen = () => items.filter(item => !item.hidden);
  const stored = key => [...document.querySelectorAll(`.layer[data-of="${key}"]`)];
  const draw = () => {
    const large = one(".large"), photo = document.getElementById(now.dataset.key);
    large.setAttribute("viewBox", `0 0 ${photo.getAttribute("width")} ${photo.getAttribute("height")}`);
    large.setAttribute("aria-label", `${now.dataset.id}, ${layers.value || "photo alone"}`);
    const use = document.createElementNS(large.namespaceURI, "use");
    use.setAttribute("href", `#${now.dataset.key}`);
    const layer = stored(now.dataset.key).find(other => other.dataset.title === layers.value);
    const over = layer?.cloneNode();
    over?.removeAttribute("id");
    over?.removeAttribute("data-of");
    over?.setAttribute("opacity", opacity.value / 100);
    large.replaceChildren(use, ...(over ? [over] : []));
  };
  const show = (item, scrolls = true) => {
    now?.removeAttribute("aria-current");
    now = item;
    item.setAttribute("aria-current", "true");
    const strip = one(".strip");
    if (scrolls) strip.scrollLeft = item.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + 40;
    const titles = stored(item.dataset.key).map(layer => layer.dataset.title);
    layers.replaceChildren(new Option("photo alone", ""), ...titles.map(title => new Option(title, title)));
    layers.value = titles.includes(wanted) ? wanted : titles.find(title => title === "mask" || title === "prediction") ?? "";
    one("h2").textContent = item.dataset.id;
    one(".said").replaceChildren(item.querySelector("template").content.cloneNode(true));
    one(".file").textContent = item.dataset.file;
    one(".file").setAttribute("href", encodeURI(item.dataset.file).replaceAll("#", "%23").replaceAll("?", "%3F"));
    const all = seen();
    one(".place").textContent = `${all.indexOf(item) + 1} of ${all.length}`;
    draw();
  };
  const step = by => {
    const all = seen();
    if (all.length) show(all[(all.indexOf(now) + by + all.length) % all.length]);
  };
  const narrow = () => {
    const { tag, kind, split } = Object.fromEntries(new FormData(form));
    for (const item of items) {
      const tags = [...item.querySelector("template").content.querySelectorAll(".tag:not(.none)")].map(e => e.textContent);
      item.hidden =
        (tag && !tags.includes(tag)) || (kind && !item.dataset.kinds.split(" ").includes(kind)) ||
        Boolean(split && item.dataset.split !== split);
    }
    const all = seen();
    one(".count").textContent = all.length === 1 ? "1 image" : `${all.length} images`;
    if (all.length && now.hidden) show(all[0]);
    else if (all.length) show(now);
  };
  for (const item of items) item.querySelector("button").addEventListener("click", () => show(item, false));
  for (const button of viewer.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  layers.addEventListener("change", () => {
    wanted = layers.value;
    draw();
  });
  opacity.addEventListener("input", draw);
  form.addEventListener("input", narrow);
  addEventListener("keydown", event => {
    if (event.target.matches("select, input, pre") || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.key === "ArrowRight" || event.key === "n") step(1);
    else if (event.key === "ArrowLeft" || event.key === "p") step(-1);
    else return;
    event.preventDefault();
  });
  form.hidden = one(".steps").hidden = false;
  show(items[0], false);
  narrow();
}
