// The list of images: only the rows in sight exist, whatever their number; pages come as needed.
const PAGE = 100, SPARE = 6;

export class QueueList {
  // `source.rows(filters, offset, limit)` promises `{ total, rows }`; `source.thumb(row)` is a picture.
  constructor(element, source, pick) {
    this.source = source;
    this.element = element;
    this.list = element.querySelector("ol");
    this.pick = pick;
    this.total = 0;
    this.current = -1;
    this.rows = new Map(); // by place
    this.pages = new Map(); // number of a page: whether it is there
    this.shown = new Map(); // place: its element
    this.filters = {};
    element.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(element);
    this.list.addEventListener("click", event => {
      const row = event.target.closest(".row");
      if (row) this.pick(Number(row.dataset.place));
    });
  }

  get height() {
    return 4.5 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  async load(filters) {
    this.filters = filters;
    this.rows.clear();
    this.pages.clear();
    this.asking = (this.asking ?? 0) + 1;
    await this.page(0);
    this.list.replaceChildren();
    this.shown.clear();
    this.element.scrollTop = 0;
    this.draw();
    return this.total;
  }

  async page(number) {
    const asking = this.asking;
    if (!this.pages.has(number))
      this.pages.set(number, this.source.rows(this.filters, number * PAGE, PAGE));
    const { total, rows } = await this.pages.get(number);
    if (asking !== this.asking) return;
    this.total = total;
    rows.forEach((row, k) => {
      if (!this.rows.has(number * PAGE + k)) this.rows.set(number * PAGE + k, row);
    });
  }

  async row(place) {
    if (!this.rows.has(place)) await this.page(Math.floor(place / PAGE));
    return this.rows.get(place);
  }

  // The place of an image among the rows that are known, or -1.
  place(id) {
    for (const [place, row] of this.rows) if (row.id === id) return place;
    return -1;
  }

  select(place) {
    this.current = place;
    const top = place * this.height, room = this.element.clientHeight;
    if (room && (top < this.element.scrollTop || top + this.height > this.element.scrollTop + room))
      this.element.scrollTop = top - room / 3;
    for (const [at, element] of this.shown) element.setAttribute("aria-current", String(at === place));
    this.draw();
  }

  update(place, changes) {
    const row = this.rows.get(place);
    if (!row) return;
    Object.assign(row, changes);
    this.shown.get(place)?.remove();
    this.shown.delete(place);
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.render();
    });
  }

  render() {
    const { height } = this;
    this.list.style.height = `${this.total * height}px`;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - SPARE);
    const last = Math.min(this.total, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + SPARE);
    for (const [place, element] of this.shown)
      if (place < first || place >= last) {
        element.remove();
        this.shown.delete(place);
      }
    const missing = new Set();
    for (let place = last - 1; place >= first; place--) {
      const row = this.rows.get(place);
      if (!row) missing.add(Math.floor(place / PAGE));
      else if (!this.shown.has(place)) {
        const element = this.made(place, row);
        element.style.transform = `translateY(${place * height}px)`;
        this.shown.set(place, element);
        this.list.insertBefore(element, this.shown.get(place + 1) ?? null);
      }
    }
    clearTimeout(this.later);
    // Pages that are only scrolled past are not asked for.
    if (missing.size)
      this.later = setTimeout(() => Promise.all([...missing].map(n => this.page(n))).then(() => this.draw()), 60);
  }

  made(place, row) {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "row";
    element.dataset.place = place;
    element.dataset.id = row.id;
    element.setAttribute("aria-current", String(place === this.current));
    const text = document.createElement("span");
    const name = document.createElement("b");
    name.textContent = row.id;
    name.title = row.id;
    const tags = document.createElement("small");
    tags.textContent = row.tags.join(", ") || "nothing in it";
    if (row.state !== "open") {
      const state = document.createElement("span");
      state.className = `state ${row.state}`;
      state.textContent = row.state;
      tags.prepend(state);
    }
    text.append(name, tags);
    if (row.doubts.length) {
      const why = document.createElement("small");
      why.className = `reason ${row.doubts[0].kind}`;
      why.textContent = row.doubts[0].title;
      text.append(why);
    }
    element.append(this.source.thumb(row), text);
    return element;
  }
}
