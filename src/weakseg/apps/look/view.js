// The canvas: photo, map and mask, moved and zoomed.
// A mask is anything with a width, a height and a canvas or picture of them.
const MOST = 40;

export class View {
  // `margins` tells, of the canvas's width, the room that the page's own parts take on it.
  constructor(canvas, margins) {
    this.canvas = canvas;
    this.margins = margins;
    this.context = canvas.getContext("2d");
    this.scale = 1;
    this.x = this.y = 0;
    this.opacity = 0.6;
    this.hidden = false;
    this.photo = this.mask = this.overlay = this.before = null;
    this.preview = () => {};
    this.fitted = true;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    Object.assign(this, { width, height });
    if (this.fitted) this.fit();
    else this.draw();
  }

  show(photo, mask) {
    Object.assign(this, { photo, mask, overlay: null, before: null });
    this.fit();
  }

  fit() {
    if (!this.mask || !this.width) return;
    const { left, right, top, bottom } = this.margins(this.width);
    const width = Math.max(40, this.width - left - right), height = Math.max(40, this.height - top - bottom);
    this.scale = Math.min(width / this.mask.width, height / this.mask.height);
    this.x = left + (width - this.mask.width * this.scale) / 2;
    this.y = top + (height - this.mask.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  zoom(factor, at = { x: this.width / 2, y: this.height / 2 }) {
    if (!this.mask) return;
    const least = Math.min(1, 80 / Math.max(this.mask.width, this.mask.height));
    const scale = Math.min(MOST, Math.max(least, this.scale * factor));
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.move(0, 0);
  }

  move(dx, dy) {
    if (!this.mask) return;
    const keep = 48; // so much of the photo stays in sight
    const held = (at, size, room) => Math.min(room - keep, Math.max(keep - size, at));
    this.x = held(this.x + dx, this.mask.width * this.scale, this.width);
    this.y = held(this.y + dy, this.mask.height * this.scale, this.height);
    this.fitted = false;
    this.draw();
  }

  // Where a pointer is: in pixels of the canvas and of the mask.
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const sx = event.clientX - box.left, sy = event.clientY - box.top;
    return { sx, sy, x: (sx - this.x) / this.scale, y: (sy - this.y) / this.scale };
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.render();
    });
  }

  render() {
    const { context, ratio, scale, mask } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!mask) return;
    context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * this.x, ratio * this.y);
    const whole = [0, 0, mask.width, mask.height];
    context.imageSmoothingEnabled = scale < 6;
    context.imageSmoothingQuality = "high";
    if (this.photo) context.drawImage(this.photo, ...whole);
    if (this.overlay) {
      context.imageSmoothingEnabled = true;
      context.drawImage(this.overlay, ...whole);
    }
    const shown = this.before ?? mask;
    if (!this.hidden && this.opacity) {
      context.imageSmoothingEnabled = scale < 1;
      context.globalAlpha = this.opacity;
      context.drawImage(shown.canvas, ...whole);
      context.globalAlpha = 1;
    }
    if (!this.before) this.preview(context, 1 / scale);
  }
}
