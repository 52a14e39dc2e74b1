// The report's viewer: the list of images, the one that is looked at, and what is told of it.
import { css, made, showAbout, showMaps } from "./about.js";
import { Archive } from "./archive.js";
import { listen } from "./keys.js";
import { follow } from "./pointers.js";
import { QueueList } from "./queue_list.js";
import { View } from "./view.js";

const $ = id => document.getElementById(id);
const MASKS = ["mask", "prediction", "truth", "seeds"]; // layers that are label maps; others are maps
const margins = () => ({ left: 12, right: 12, top: 54, bottom: 12 });

const decoded = async address => {
  const image = Object.assign(new Image(), { src: address });
  await image.decode();
  return image;
};

class Viewer {
  constructor(data) {
    this.classes = data.classes;
    this.archive = new Archive(data);
    this.view = new View($("canvas"), margins);
    this.list = new QueueList($("rows"), this.archive, place => this.open(place));
    this.map = "";
    this.layer = "mask";
  }

  async filter(filters) {
    const total = await this.list.load(filters);
    $("none").hidden = total > 0;
    const place = this.image ? this.archive.found(filters).indexOf(this.image) : 0;
    if (total) await this.open(Math.max(0, place), false);
    else $("place").textContent = "no image";
  }

  async open(place, closes = true) {
    if (place < 0 || place >= this.list.total) return;
    const image = await this.list.row(place);
    if (!image) return;
    if (closes) this.toggleList(false);
    this.place = place;
    this.list.select(place);
    $("place").textContent = `${(place + 1).toLocaleString("en")} of ${this.list.total.toLocaleString("en")}`;
    if (image === this.image) return;
    this.image = image;
    document.body.dataset.image = image.id;
    this.tell(image);
    let found = null;
    try {
      found = await this.archive.pictures(image);
      this.hint(found ? "" : "This photo is not where it was when the run was made.");
    } catch (error) {
      this.hint(error.message);
    }
    if (image === this.image) await this.look(image, found?.layers ?? new Map(), found?.photo);
  }

  tell(image) {
    showAbout(image);
    $("state").hidden = image.state === "open";
    $("classes").replaceChildren(
      ...(image.tags.length ? image.tags : ["no tag"]).map(name => {
        const known = this.classes.find(each => each.name === name);
        const item = made("li"), line = made("span", undefined, { className: "pick" });
        if (known) {
          item.style.setProperty("--c", css(known.colour));
          line.append(made("i"));
        }
        line.append(made("span", name));
        item.append(line);
        return item;
      }),
    );
    $("mask-file").textContent = image.file;
    $("mask-file").href = encodeURI(image.file).replaceAll("#", "%23").replaceAll("?", "%3F");
  }

  async look(image, layers, address) {
    this.layers = layers;
    const photo = address ? await decoded(address).catch(() => null) : null;
    if (image !== this.image) return;
    this.size = photo ? { width: photo.naturalWidth, height: photo.naturalHeight } : { width: 4, height: 3 };
    this.view.show(photo, { ...this.size, canvas: new OffscreenCanvas(1, 1) });
    const masks = MASKS.filter(title => layers.has(title));
    const maps = [...layers.keys()].filter(title => !MASKS.includes(title));
    $("layer").replaceChildren(...masks.map(title => new Option(title, title)));
    $("layer").hidden = masks.length < 2;
    this.shown = masks.includes(this.layer) ? this.layer : masks[0];
    $("layer").value = this.shown ?? "";
    showMaps(maps, maps.includes(this.map) ? this.map : "");
    $("overlay").hidden = !maps.length;
    await Promise.all([this.mask(this.shown), this.overlay(maps.includes(this.map) ? this.map : "", false)]);
    $("canvas").dataset.shows = image.id;
  }

  async mask(title) {
    const { image, size } = this;
    const canvas = this.layers.has(title) ? await decoded(this.layers.get(title)) : null;
    if (image !== this.image || !canvas) return;
    this.shown = title;
    $("canvas").ariaLabel = `${image.id} with its ${title}`;
    this.view.mask = { ...size, canvas };
    this.view.draw();
  }

  async overlay(title, chosen = true) {
    const { image } = this;
    if (chosen) this.map = title;
    const picture = this.layers.has(title) ? await decoded(this.layers.get(title)) : null;
    if (image !== this.image) return;
    this.view.overlay = picture;
    $("overlay").value = title;
    this.view.draw();
  }

  step(by) {
    return this.open(this.place + by);
  }

  nextMap() {
    const titles = [...$("overlay").options].map(option => option.value);
    return this.overlay(titles[(titles.indexOf($("overlay").value) + 1) % titles.length]);
  }

  opacity(by) {
    $("opacity").value = Number($("opacity").value) + by;
    $("opacity").dispatchEvent(new Event("input"));
  }

  peek() {
    this.view.hidden = !this.view.hidden;
    document.querySelector("[data-do=peek]").setAttribute("aria-pressed", String(this.view.hidden));
    this.view.draw();
  }

  toggleList(open = !$("queue").classList.contains("open")) {
    $("queue").classList.toggle("open", open);
    if (open) this.list.select(this.place);
  }

  hint(text) {
    $("hint").textContent = text;
    $("hint").hidden = !text;
  }
}

const row = (keys, name, run) => ({ keys, name, run });
const keyTable = viewer => [
  row(["ArrowRight", "n"], "Next image", () => viewer.step(1)),
  row(["ArrowLeft", "p"], "Previous image", () => viewer.step(-1)),
  row(["+", "="], "Zoom in", () => viewer.view.zoom(1.25)),
  row(["-"], "Zoom out", () => viewer.view.zoom(0.8)),
  row(["0"], "Whole photo", () => viewer.view.fit()),
  row([","], "Mask fainter", () => viewer.opacity(-10)),
  row(["."], "Mask stronger", () => viewer.opacity(10)),
  row(["h"], "Hide the mask", () => viewer.peek()),
  row(["o"], "Next map over the photo", () => viewer.nextMap()),
  row(["/"], "Find a file", () => document.querySelector("[name=text]").focus()),
  row(["?"], "These keys", () => $("help").showModal()),
];

function begin(data) {
  const viewer = new Viewer(data);
  const actions = {
    previous: () => viewer.step(-1),
    next: () => viewer.step(1),
    peek: () => viewer.peek(),
    fit: () => viewer.view.fit(),
    queue: () => viewer.toggleList(),
    help: () => $("help").showModal(),
  };
  for (const button of document.querySelectorAll("[data-do]"))
    button.addEventListener("click", () => actions[button.dataset.do]());
  $("opacity").addEventListener("input", event => {
    viewer.view.opacity = Number(event.target.value) / 100;
    viewer.view.draw();
  });
  $("layer").addEventListener("change", event => viewer.mask((viewer.layer = event.target.value)));
  $("overlay").addEventListener("change", event => viewer.overlay(event.target.value));
  const form = document.querySelector(".filters");
  const narrow = () => viewer.filter(Object.fromEntries(new FormData(form)));
  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(narrow, 120);
  });
  form.addEventListener("submit", event => event.preventDefault());
  follow(viewer.view, () => ({ moves: true, scrolls: true }), { space: false });
  listen(keyTable(viewer));
  narrow();
}

if ($("viewed")) begin(JSON.parse($("viewed").textContent));
