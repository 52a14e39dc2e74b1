// Pieces between learnt boundaries on the mask's own pixels: bilinear, so that edges are smooth.
export class Regions {
  constructor({ numbers, width, height }, mask) {
    Object.assign(this, { numbers, gridWidth: width, gridHeight: height, mask });
    this.known = new Map();
  }

  number(x, y) {
    const { width, height } = this.mask;
    if (x < 0 || y < 0 || x >= width || y >= height) return -1;
    const gx = Math.min(this.gridWidth - 1, Math.floor((x / width) * this.gridWidth));
    const gy = Math.min(this.gridHeight - 1, Math.floor((y / height) * this.gridHeight));
    return this.numbers[gy * this.gridWidth + gx];
  }

  // The pixels of a region: their places in the mask, and the rectangle around them.
  pixels(number) {
    if (!this.known.has(number)) this.known.set(number, this.find(number));
    return this.known.get(number);
  }

  find(number) {
    const { numbers, gridWidth: w, gridHeight: h, mask } = this;
    let left = w, right = -1, top = h, bottom = -1;
    for (let y = 0, p = 0; y < h; y++)
      for (let x = 0; x < w; x++, p++)
        if (numbers[p] === number) {
          left = Math.min(left, x); right = Math.max(right, x);
          top = Math.min(top, y); bottom = y;
        }
    const sx = w / mask.width, sy = h / mask.height;
    const x0 = Math.max(0, Math.floor((left - 1) / sx)), x1 = Math.min(mask.width, Math.ceil((right + 2) / sx));
    const y0 = Math.max(0, Math.floor((top - 1) / sy)), y1 = Math.min(mask.height, Math.ceil((bottom + 2) / sy));
    const is = (x, y) =>
      numbers[Math.min(h - 1, Math.max(0, y)) * w + Math.min(w - 1, Math.max(0, x))] === number ? 1 : 0;
    const places = [];
    for (let y = y0; y < y1; y++) {
      const gy = (y + 0.5) * sy - 0.5, iy = Math.floor(gy), fy = gy - iy;
      for (let x = x0; x < x1; x++) {
        const gx = (x + 0.5) * sx - 0.5, ix = Math.floor(gx), fx = gx - ix;
        const share =
          (is(ix, iy) * (1 - fx) + is(ix + 1, iy) * fx) * (1 - fy) +
          (is(ix, iy + 1) * (1 - fx) + is(ix + 1, iy + 1) * fx) * fy;
        if (share >= 0.5) places.push(y * mask.width + x);
      }
    }
    return { places, box: { x: x0, y: y0, width: x1 - x0, height: y1 - y0 } };
  }

  picture(number) {
    const { places, box } = this.pixels(number);
    const canvas = new OffscreenCanvas(Math.max(1, box.width), Math.max(1, box.height));
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    const own = new Set(places), { width } = this.mask;
    for (const p of places) {
      const inner = own.has(p - 1) && own.has(p + 1) && own.has(p - width) && own.has(p + width);
      const at = (Math.floor(p / width) - box.y) * box.width + (p % width) - box.x;
      pixels[at] = inner ? 0x38ffffff : 0xf0ffffff;
    }
    context.putImageData(image, 0, 0);
    return { canvas, box };
  }
}
