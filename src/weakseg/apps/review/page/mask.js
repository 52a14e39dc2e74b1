// A label map and its picture: tinted classes with full contours, veiled where unknown.
export const UNKNOWN = 255;
const TINT = 150;

export class Mask {
  constructor(labels, width, height, colours) {
    Object.assign(this, { labels, width, height });
    this.tints = new Uint32Array(256);
    this.edges = new Uint32Array(256);
    const rgba = ([r, g, b], alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
    colours.forEach((colour, k) => {
      this.tints[k + 1] = rgba(colour, TINT);
      this.edges[k + 1] = rgba(colour, 255);
    });
    this.tints[UNKNOWN] = this.edges[UNKNOWN] = rgba([150, 160, 165], 140);
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.paint();
  }

  // Draws anew what a rectangle of labels shows.
  paint(box = { x: 0, y: 0, width: this.width, height: this.height }) {
    const left = Math.max(0, box.x - 1), top = Math.max(0, box.y - 1);
    const right = Math.min(this.width, box.x + box.width + 1);
    const bottom = Math.min(this.height, box.y + box.height + 1);
    if (right <= left || bottom <= top) return;
    const image = this.context.createImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    const { labels, width, height, tints, edges } = this;
    let at = 0;
    for (let y = top; y < bottom; y++)
      for (let x = left, p = y * width + left; x < right; x++, p++, at++) {
        const label = labels[p];
        if (!label) continue;
        const edge =
          (x && labels[p - 1] !== label) || (x < width - 1 && labels[p + 1] !== label) ||
          (y && labels[p - width] !== label) || (y < height - 1 && labels[p + width] !== label);
        pixels[at] = edge ? edges[label] : tints[label];
      }
    this.context.putImageData(image, left, top);
  }

  at(x, y) {
    return x < 0 || y < 0 || x >= this.width || y >= this.height ? -1 : this.labels[y * this.width + x];
  }

  cut({ x, y, width, height }) {
    const part = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const from = (y + row) * this.width + x;
      part.set(this.labels.subarray(from, from + width), row * width);
    }
    return part;
  }

  // The rectangle in which two label maps of this size differ, or null.
  difference(other) {
    let left = this.width, right = -1, top = -1, bottom = -1;
    for (let y = 0, p = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++, p++)
        if (this.labels[p] !== other[p]) {
          if (top < 0) top = y;
          bottom = y;
          if (x < left) left = x;
          if (x > right) right = x;
        }
    return top < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  }
}

export function union(a, b) {
  if (!a || !b) return a ?? b;
  const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
  return {
    x, y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}
