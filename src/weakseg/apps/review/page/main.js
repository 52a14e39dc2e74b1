// The review page: the queue, the photo that is looked at, and what is done to it.
import { showAbout, showMaps } from "./about.js";
import { keyTable } from "./key_table.js";
import { listen } from "./keys.js";
import { showClasses, showHistory, showOptions, showProgress } from "./panels.js";
import { Photo } from "./photo.js";
import { follow } from "./pointers.js";
import { QueueList } from "./queue_list.js";
import { address, get, picture } from "./server.js";
import { TOOLS } from "./tools.js";
import { View } from "./view.js";

const $ = id => document.getElementById(id);
const held = { space: false };

// Room that the tools take on the canvas.
const margins = width =>
  width > 560 ? { left: 76, right: 20, top: 60, bottom: 66 } : { left: 8, right: 8, top: 52, bottom: 112 };

const images = {
  rows: (filters, offset, limit) => get("images", { ...filters, offset, limit }),
  thumb(row) {
    const image = Object.assign(new Image(), { loading: "lazy", decoding: "async", alt: "" });
    image.src = address("thumb", { id: row.id, v: `${row.version ?? ""}${row.state}` });
    return image;
  },
};

class Desk {
  constructor(run) {
    this.classes = run.classes;
    this.colours = run.classes.map(({ colour }) => colour);
    this.view = new View($("canvas"), margins);
    this.view.preview = (context, thin) => this.tool.preview?.(context, thin);
    this.queue = new QueueList($("rows"), images, place => this.open(place));
    this.label = 1;
    this.radius = 8;
    this.beside = false;
    this.map = "";
    this.photo = null;
    this.tools = new Map(TOOLS.map(row => [row.id, row.make(this)]));
    this.use("region");
  }

  get tool() {
    return this.tools.get(this.toolRow.id);
  }

  // The queue and the image in it.

  async filter(filters, keep = null) {
    const total = await this.queue.load(filters);
    $("none").hidden = total > 0;
    const place = keep === null ? -1 : this.queue.place(keep);
    if (place >= 0) {
      this.place = place;
      this.queue.select(place);
    } else if (total && keep === null) await this.open(0);
  }

  async open(place) {
    if (place < 0 || place >= this.queue.total) return;
    const asked = (this.asked = {});
    const row = await this.queue.row(place);
    if (!row || asked !== this.asked) return;
    $("queue").classList.remove("open");
    this.place = place;
    this.queue.select(place);
    await this.look(row.id, asked);
    this.ahead(place + 1);
  }

  async look(id, asked = (this.asked = {})) {
    await this.photo?.work;
    const photo = new Photo(id, this.colours, state => this.photo === photo && this.saved(state));
    try {
      await photo.load();
    } catch (error) {
      return this.fail(error);
    }
    if (asked !== this.asked) return;
    photo.changes = 0;
    this.tool.cancel?.();
    this.photo = photo;
    const tagged = this.classes.findIndex(({ name }) => photo.about.tags.includes(name));
    if (!photo.about.tags.includes(this.classes[this.label - 1].name) && tagged >= 0) this.label = tagged + 1;
    this.view.show(photo.photo, photo.mask);
    this.show();
    this.saved("saved");
    this.hint("");
    await this.overlay(photo.about.maps.includes(this.map) ? this.map : "");
  }

  async ahead(place) {
    const row = place < this.queue.total ? await this.queue.row(place) : null;
    if (row) picture("photo", { id: row.id }).catch(() => {});
  }

  step(by) {
    return this.open(this.place + by);
  }

  show() {
    const { about } = this.photo;
    showAbout(about);
    showHistory(about.history);
    $("mask-file").textContent = about.mask;
    showMaps(about.maps, this.map);
    showClasses(this.classes, about, this.label, {
      pick: label => this.pick(label),
      toggle: name => this.toggle(name),
    });
    showOptions(this);
    document.querySelector("[data-do=undo]").disabled = !about.undo;
    document.querySelector("[data-do=redo]").disabled = !about.redo;
    $("state").dataset.version = about.version ?? "";
    document.title = `${about.id} · weakseg review`;
    document.body.dataset.image = about.id;
    this.pressed("before", Boolean(this.view.before));
    this.pressed("peek", this.view.hidden);
    this.view.draw();
  }

  // What is done to the image; all of it is saved at once.

  async change(made) {
    const { photo } = this;
    photo.changes++;
    this.view.before = null;
    try {
      await made(photo);
    } catch (error) {
      this.fail(error);
      if (this.photo === photo) await this.look(photo.id);
      return false;
    }
    const { state, tags, version } = photo.about;
    // Where the image is now: the list may be another one since.
    this.queue.update(this.queue.place(photo.id), { state, tags, version });
    if (this.photo === photo) this.show();
    this.counted();
    return true;
  }

  save(box, action) {
    return this.change(photo => photo.draw(box, action));
  }

  async judge(state) {
    if (!this.photo) return;
    const { place } = this;
    if ((await this.change(photo => photo.judge(state))) && state !== "open" && this.place === place) await this.step(1);
  }

  go(way) {
    this.tool.cancel?.();
    if (this.photo?.waiting || this.photo?.about[way]) return this.change(photo => photo.go(way));
  }

  toggle(name) {
    const { tags } = this.photo.about;
    const now = tags.includes(name) ? tags.filter(other => other !== name) : [...tags, name];
    return this.change(photo => photo.tag(now));
  }

  // Tools and view.

  use(id) {
    this.toolRow = TOOLS.find(row => row.id === id);
    for (const button of document.querySelectorAll(".tools [data-tool]"))
      button.setAttribute("aria-checked", String(button.dataset.tool === id));
    $("canvas").dataset.tool = id;
    this.hint("");
    if (this.photo) this.show();
  }

  pick(label) {
    if (label < 1 || label > this.classes.length) return;
    this.label = label;
    if (this.photo) this.show();
  }

  size(radius) {
    this.radius = Math.min(100, Math.max(1, radius));
    showOptions(this);
    this.view.draw();
  }

  side(beside) {
    this.beside = beside;
    showOptions(this);
  }

  confirm() {
    if (this.toolRow.id === "polygon") this.tool.finish();
  }

  opacity(by) {
    const slider = $("opacity");
    slider.value = Number(slider.value) + by;
    slider.dispatchEvent(new Event("input"));
  }

  peek() {
    this.view.hidden = !this.view.hidden;
    this.show();
  }

  async before() {
    const { photo } = this;
    const before = this.view.before ? null : await photo.before();
    if (this.photo !== photo) return;
    this.view.before = before;
    this.show();
  }

  async overlay(kind) {
    const { photo } = this;
    this.map = kind;
    const shown = kind ? await picture("map", { id: photo.id, kind }).catch(error => this.fail(error)) : null;
    if (this.photo !== photo) return;
    this.view.overlay = shown ?? null;
    $("overlay").value = kind;
    this.view.draw();
  }

  nextMap() {
    const kinds = ["", ...this.photo.about.maps];
    return this.overlay(kinds[(kinds.indexOf(this.map) + 1) % kinds.length]);
  }

  // What the page says.

  pressed(name, on) {
    document.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", String(on));
  }

  saved(state) {
    const box = $("saved");
    box.dataset.state = state;
    box.textContent = { saved: "saved", saving: "saving …", failed: "not saved yet; trying again" }[state];
  }

  hint(text) {
    $("hint").textContent = text;
    $("hint").hidden = !text;
  }

  fail(error) {
    const toast = $("toast");
    toast.textContent = error.message;
    toast.hidden = false;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => (toast.hidden = true), 8000);
  }

  counted() {
    clearTimeout(this.counting);
    this.counting = setTimeout(() => get("run").then(showProgress, () => {}), 150);
  }
}

function buildTools(desk) {
  const bar = document.querySelector(".tools");
  for (const { id, key, name } of TOOLS) {
    if (id === "hand") bar.append(document.createElement("hr"));
    const button = Object.assign(document.createElement("button"), { type: "button", className: "icon" });
    button.title = `${name} (${key.toUpperCase()})`;
    button.ariaLabel = name;
    button.dataset.tool = id;
    button.setAttribute("role", "radio");
    button.innerHTML = `<svg><use href="icons.svg#${id}"/></svg>`;
    button.addEventListener("click", () => desk.use(id));
    bar.append(button);
  }
  const fit = Object.assign(document.createElement("button"), { type: "button", className: "icon" });
  fit.title = "Whole photo (0)";
  fit.innerHTML = '<svg><use href="icons.svg#fit"/></svg>';
  fit.addEventListener("click", () => desk.view.fit());
  bar.append(fit);
}

function filters() {
  return Object.fromEntries(new FormData(document.querySelector(".filters")));
}

async function begin() {
  const run = await get("run");
  $("run-name").textContent = run.name;
  $("command").textContent = run.command;
  for (const { name } of run.classes)
    document.querySelector("[name=tag]").append(new Option(name, name));
  const desk = new Desk(run);
  buildTools(desk);
  desk.use("region");
  showProgress(run);
  if (run.faults.length) desk.fail(new Error(run.faults[0]));

  const actions = {
    previous: () => desk.step(-1),
    next: () => desk.step(1),
    accept: () => desk.judge("accepted"),
    reject: () => desk.judge("rejected"),
    undo: () => desk.go("undo"),
    redo: () => desk.go("redo"),
    peek: () => desk.peek(),
    before: () => desk.before(),
    help: () => $("help").showModal(),
    queue: () => {
      const open = $("queue").classList.toggle("open");
      document.querySelector("[data-do=queue]").setAttribute("aria-expanded", String(open));
      desk.queue.select(desk.place);
    },
  };
  for (const button of document.querySelectorAll("[data-do]"))
    button.addEventListener("click", () => actions[button.dataset.do]());
  $("opacity").addEventListener("input", event => {
    desk.view.opacity = Number(event.target.value) / 100;
    desk.view.draw();
  });
  $("overlay").addEventListener("change", event => desk.overlay(event.target.value));
  let typing = 0;
  document.querySelector(".filters").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => desk.filter(filters()), 200);
  });
  document.querySelector(".filters").addEventListener("submit", event => event.preventDefault());
  addEventListener("beforeunload", event => {
    if (desk.photo?.waiting) event.preventDefault();
  });
  follow(desk.view, () => desk.tool, held);
  listen(keyTable(desk, TOOLS), held, () => desk.view.draw());
  await desk.filter(filters());
  watch(run, desk);
}

// Until all doubts are known, the order may still change.
async function watch(run, desk) {
  while (!run.ready) {
    await new Promise(resolve => setTimeout(resolve, 700));
    run = await get("run").catch(() => run);
    showProgress(run);
    if (run.ready && filters().order === "doubt") {
      const untouched = desk.photo && desk.place === 0 && desk.photo.about.version === null && !desk.photo.waiting;
      await desk.filter(filters(), untouched ? null : (desk.photo?.id ?? null));
    }
  }
}

begin().catch(error => {
  $("toast").textContent = error.message;
  $("toast").hidden = false;
});
