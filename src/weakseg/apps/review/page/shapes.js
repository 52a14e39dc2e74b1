// Sets labels inside of shapes; each returns the rectangle that it touched, or null.

// A round line from one point to another.
export function stroke(mask, from, to, radius, label) {
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const right = Math.min(mask.width, Math.ceil(Math.max(from.x, to.x) + radius) + 1);
  const bottom = Math.min(mask.height, Math.ceil(Math.max(from.y, to.y) + radius) + 1);
  if (right <= left || bottom <= top) return null;
  const dx = to.x - from.x, dy = to.y - from.y, long = dx * dx + dy * dy;
  const near = Math.max(radius, 0.5) ** 2;
  for (let y = top; y < bottom; y++)
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - from.x, py = y + 0.5 - from.y;
      const t = long ? Math.min(1, Math.max(0, (px * dx + py * dy) / long)) : 0;
      if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= near) mask.labels[y * mask.width + x] = label;
    }
  return { x: left, y: top, width: right - left, height: bottom - top };
}

// A closed polygon, by the even-odd rule at the pixels' middles.
export function polygon(mask, points, label) {
  const ys = points.map(p => p.y);
  const top = Math.max(0, Math.floor(Math.min(...ys)));
  const bottom = Math.min(mask.height, Math.ceil(Math.max(...ys)));
  let box = null;
  for (let y = top; y < bottom; y++) {
    const middle = y + 0.5, cuts = [];
    points.forEach((a, k) => {
      const b = points[(k + 1) % points.length];
      if (a.y <= middle !== b.y <= middle) cuts.push(a.x + ((middle - a.y) / (b.y - a.y)) * (b.x - a.x));
    });
    cuts.sort((a, b) => a - b);
    for (let k = 0; k + 1 < cuts.length; k += 2) {
      const left = Math.max(0, Math.ceil(cuts[k] - 0.5));
      const right = Math.min(mask.width, Math.ceil(cuts[k + 1] - 0.5));
      if (right <= left) continue;
      mask.labels.fill(label, y * mask.width + left, y * mask.width + right);
      box = grown(box, left, y, right - left, 1);
    }
  }
  return box;
}

// All connected pixels that have the label of the first.
export function fill(mask, x, y, label) {
  const { labels, width, height } = mask;
  const old = mask.at(x, y);
  if (old < 0 || old === label) return null;
  const stack = [y * width + x];
  let box = null;
  while (stack.length) {
    let p = stack.pop();
    if (labels[p] !== old) continue;
    const row = Math.floor(p / width) * width;
    let left = p, right = p;
    while (left > row && labels[left - 1] === old) left--;
    while (right < row + width - 1 && labels[right + 1] === old) right++;
    labels.fill(label, left, right + 1);
    box = grown(box, left - row, row / width, right - left + 1, 1);
    for (const next of [row - width, row + width]) {
      if (next < 0 || next >= width * height) continue;
      for (let q = left - row + next; q <= right - row + next; q++)
        if (labels[q] === old && (q === left - row + next || labels[q - 1] !== old)) stack.push(q);
    }
  }
  return box;
}

function grown(box, x, y, width, height) {
  if (!box) return { x, y, width, height };
  const right = Math.max(box.x + box.width, x + width), bottom = Math.max(box.y + box.height, y + height);
  const left = Math.min(box.x, x), top = Math.min(box.y, y);
  return { x: left, y: top, width: right - left, height: bottom - top };
}
