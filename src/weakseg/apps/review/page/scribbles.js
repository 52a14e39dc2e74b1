// Scribbles on an object and beside it; the server completes them on the learnt boundaries.
import { bytes } from "./server.js";

const LONG_SIDE = 640;
const COLOURS = { 1: "#fff", 2: "#111" };

export class Scribbles {
  constructor(desk) {
    Object.assign(this, { desk, strokes: [], line: null });
  }

  // A new image, class or undo begins anew.
  fresh() {
    const { photo, label } = this.desk;
    if (this.of === photo && this.label === label && this.changes === photo.changes) return;
    Object.assign(this, { of: photo, label, strokes: [], changes: photo.changes });
    this.base = photo.mask.labels.slice();
  }

  down(point, event) {
    this.fresh();
    const beside = this.desk.beside !== (event.shiftKey || event.button === 2);
    this.line = { value: beside ? 2 : 1, points: [point] };
  }
  move(point) {
    this.line?.points.push(point);
  }
  async up() {
    if (!this.line) return;
    this.strokes.push(this.line);
    this.line = null;
    if (!this.strokes.some(stroke => stroke.value === 1)) {
      this.desk.hint("Now scribble on the object, too.");
      return;
    }
    const { photo, label } = this.desk;
    const { data, width, height } = this.raster(photo.mask);
    this.desk.hint("");
    const answer = await bytes("complete", { id: photo.id, label, width, height }, data).catch(error => {
      this.desk.fail(error);
      return null;
    });
    if (!answer || this.desk.photo !== photo || this.label !== label) return;
    const drawn = this.merged(photo.mask, new Uint8Array(answer.data), label);
    const box = photo.mask.difference(drawn);
    if (!box) return;
    photo.mask.labels.set(drawn);
    photo.mask.paint(box);
    this.desk.save(box, "scribble");
    this.changes = photo.changes;
  }
  cancel() {
    this.line = null;
  }

  raster({ width, height }) {
    const scale = Math.min(1, LONG_SIDE / Math.max(width, height));
    const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    const context = canvas.getContext("2d");
    context.scale(canvas.width / width, canvas.height / height);
    for (const stroke of this.strokes) this.trace(context, stroke, `rgb(${stroke.value * 100} 0 0)`, 3 / scale);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const data = new Uint8Array(canvas.width * canvas.height);
    for (let p = 0; p < data.length; p++) if (pixels[4 * p + 3] > 127) data[p] = pixels[4 * p] > 150 ? 2 : 1;
    return { data, width: canvas.width, height: canvas.height };
  }

  // The mask as before the scribbles, with the object added; parts of the class on which somebody
  // scribbled that it is not there stay only where the object is.
  merged(mask, inside, label) {
    const drawn = this.base.slice(), { width, height } = mask;
    for (const { value, points } of this.strokes)
      for (const point of value === 2 ? points : []) {
        const x = Math.floor(point.x), y = Math.floor(point.y);
        if (x < 0 || y < 0 || x >= width || y >= height || drawn[y * width + x] !== label) continue;
        const stack = [y * width + x];
        while (stack.length) {
          const p = stack.pop();
          if (drawn[p] !== label) continue;
          drawn[p] = 0;
          if (p % width) stack.push(p - 1);
          if (p % width < width - 1) stack.push(p + 1);
          if (p >= width) stack.push(p - width);
          if (p < width * (height - 1)) stack.push(p + width);
        }
      }
    for (let p = 0; p < drawn.length; p++) if (inside[p]) drawn[p] = label;
    return drawn;
  }

  trace(context, { points }, colour, width) {
    context.beginPath();
    points.forEach((p, k) => (k ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
    if (points.length === 1) context.lineTo(points[0].x + 0.01, points[0].y);
    Object.assign(context, { strokeStyle: colour, lineWidth: width, lineCap: "round", lineJoin: "round" });
    context.stroke();
  }

  preview(context, thin) {
    const shown = this.of === this.desk.photo ? [...this.strokes, this.line] : [this.line];
    for (const stroke of shown.filter(Boolean)) {
      this.trace(context, stroke, COLOURS[3 - stroke.value], 7 * thin);
      this.trace(context, stroke, COLOURS[stroke.value], 4 * thin);
    }
  }
}
