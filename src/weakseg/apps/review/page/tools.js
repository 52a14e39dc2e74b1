// What a pointer does to the mask. Each tool draws on it and saves what it drew when it is lifted.
import { union } from "./mask.js";
import { Regions } from "./regions.js";
import { fill, polygon, stroke } from "./shapes.js";
import { Scribbles } from "./scribbles.js";

const circle = (context, point, radius, thin) => {
  for (const [colour, width] of [["#000", 3], ["#fff", 1.5]]) {
    context.beginPath();
    context.arc(point.x, point.y, radius, 0, 7);
    context.lineWidth = width * thin;
    context.strokeStyle = colour;
    context.stroke();
  }
};

class Brush {
  constructor(desk, erases) {
    Object.assign(this, { desk, erases, at: null });
  }
  get label() {
    return this.erases ? 0 : this.desk.label;
  }
  down(point) {
    this.box = null;
    this.last = point;
    this.kept = this.desk.photo.mask.labels.slice();
    this.move(point);
  }
  move(point) {
    const { mask } = this.desk.photo;
    const touched = stroke(mask, this.last, point, this.desk.radius, this.label);
    this.last = this.at = point;
    this.box = union(this.box, touched);
    if (touched) mask.paint(touched);
  }
  up() {
    if (this.box) this.desk.save(this.box, this.erases ? "erase" : "brush");
    this.kept = null;
  }
  cancel() {
    if (!this.kept) return;
    this.desk.photo.mask.labels.set(this.kept);
    this.desk.photo.mask.paint();
    this.kept = null;
  }
  hover(point) {
    this.at = point;
  }
  leave() {
    this.at = null;
  }
  preview(context, thin) {
    if (this.at) circle(context, this.at, this.desk.radius, thin);
  }
}

class Fill {
  constructor(desk) {
    this.desk = desk;
  }
  up(point) {
    const { mask } = this.desk.photo;
    const box = fill(mask, Math.floor(point.x), Math.floor(point.y), this.desk.label);
    if (!box) return;
    mask.paint(box);
    this.desk.save(box, "fill");
  }
}

class Polygon {
  constructor(desk) {
    Object.assign(this, { desk, points: [], at: null });
  }
  up(point) {
    const first = this.points[0];
    const near = 12 / this.desk.view.scale;
    if (first && this.points.length > 2 && Math.hypot(point.x - first.x, point.y - first.y) < near) this.finish();
    else this.points.push(point);
  }
  hover(point) {
    this.at = point;
  }
  move(point) {
    this.at = point;
  }
  twice() {
    this.points.pop();
    this.finish();
  }
  finish() {
    const { mask } = this.desk.photo;
    const box = this.points.length > 2 ? polygon(mask, this.points, this.desk.label) : null;
    this.points = [];
    if (!box) return;
    mask.paint(box);
    this.desk.save(box, "polygon");
  }
  cancel() {
    this.points = [];
  }
  preview(context, thin) {
    if (!this.points.length) return;
    const line = this.at ? [...this.points, this.at] : this.points;
    for (const [colour, width] of [["#000", 3.5], ["#fff", 1.75]]) {
      context.beginPath();
      line.forEach((p, k) => (k ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
      context.lineWidth = width * thin;
      context.strokeStyle = colour;
      context.stroke();
    }
    for (const point of this.points) circle(context, point, 3.5 * thin, thin);
  }
}

class Region {
  constructor(desk) {
    this.desk = desk;
  }
  async ready() {
    const { photo } = this.desk;
    if (this.of === photo) return this.regions;
    const found = await photo.regions();
    if (this.desk.photo !== photo) return null;
    this.of = photo;
    this.regions = new Regions(found, photo.mask);
    this.shown = null;
    return this.regions;
  }
  async hover(point) {
    const regions = await this.ready();
    const number = regions?.number(point.x, point.y) ?? -1;
    if (number === this.over) return;
    this.over = number;
    this.shown = number < 0 ? null : regions.picture(number);
    this.desk.view.draw();
  }
  async down(point, event) {
    const regions = await this.ready();
    const number = regions?.number(point.x, point.y) ?? -1;
    if (number < 0) return;
    const { labels } = this.desk.photo.mask;
    const { places } = regions.pixels(number);
    const already = places.filter(p => labels[p] === this.desk.label).length;
    this.label = event.shiftKey || event.button === 2 || already * 2 > places.length ? 0 : this.desk.label;
    this.done = new Set();
    this.box = null;
    this.set(regions, number);
    if (this.lifted) this.finish(); // lifted before the regions were there
  }
  move(point) {
    if (!this.done) return;
    const number = this.regions.number(point.x, point.y);
    if (number >= 0) this.set(this.regions, number);
  }
  set(regions, number) {
    if (this.done.has(number)) return;
    this.done.add(number);
    const { mask } = this.desk.photo;
    const { places, box } = regions.pixels(number);
    for (const p of places)
      if (this.label || mask.labels[p] === this.desk.label) mask.labels[p] = this.label;
    mask.paint(box);
    this.box = union(this.box, box);
    this.desk.view.draw();
  }
  up() {
    if (this.done) this.finish();
    else this.ready().then(() => this.done && this.finish());
  }
  finish() {
    if (this.box) this.desk.save(this.box, this.label ? "add region" : "remove region");
    this.done = this.box = null;
  }
  cancel() {
    if (this.done) this.finish();
  }
  leave() {
    this.over = -1;
    this.shown = null;
  }
  preview(context) {
    if (this.shown) context.drawImage(this.shown.canvas, this.shown.box.x, this.shown.box.y);
  }
}

// The tools in their order: key, name, icon, and what they make.
export const TOOLS = [
  { id: "region", key: "r", name: "Region: click to add or remove", make: desk => new Region(desk) },
  { id: "scribble", key: "s", name: "Scribble: the walk does the rest", make: desk => new Scribbles(desk) },
  { id: "brush", key: "b", name: "Brush", make: desk => new Brush(desk, false) },
  { id: "eraser", key: "e", name: "Eraser", make: desk => new Brush(desk, true) },
  { id: "fill", key: "f", name: "Fill", make: desk => new Fill(desk) },
  { id: "polygon", key: "g", name: "Polygon", make: desk => new Polygon(desk) },
  { id: "hand", key: "m", name: "Move", make: () => ({ moves: true }) },
];
