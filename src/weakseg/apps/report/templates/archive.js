// All images of the report: what is told of them stands in the page, pictures there or in files beside it.
const FILES = 24; // so many of the files are kept

export class Archive {
  constructor(data) {
    this.data = data;
    this.files = new Map(); // number of a file: its images, when they are there
    this.images = data.images.map(([id, tags, split, state, doubts, at, shard = ""]) => ({
      id, split, state, at,
      file: `${split ? "validate" : "masks"}/${shard}${id}.png`,
      tags: tags.map(k => data.classes[k].name),
      doubts: doubts.map(([kind, text]) => ({ kind, text, title: data.kinds[kind] })),
    }));
    this.waiting = new Map();
    window.weaksegPictures = (number, images) => this.waiting.get(number)?.(images);
  }

  // All images that filters leave, in their order; the last answer is kept.
  found(filters) {
    const asked = JSON.stringify(filters);
    if (asked !== this.asked) {
      this.asked = asked;
      const { order, tag, kind, split, state, text } = filters;
      const wanted = (text ?? "").toLowerCase();
      this.answer = this.images.filter(
        image =>
          (!tag || image.tags.includes(tag)) && (!kind || image.doubts.some(doubt => doubt.kind === kind)) &&
          (!split || image.split === Number(split)) && (!state || image.state === state) &&
          image.id.toLowerCase().includes(wanted),
      );
      if (order === "file") this.answer.sort((a, b) => a.split - b.split || (a.id < b.id ? -1 : 1));
    }
    return this.answer;
  }

  rows(filters, offset, limit) {
    const all = this.found(filters);
    return Promise.resolve({ total: all.length, rows: all.slice(offset, offset + limit) });
  }

  // An image's photo and layers, as addresses: { photo, layers: Map }, or null if it could not be read.
  async pictures({ at }) {
    const found = /^[fg]/.test(at) ? this.inCard(at) : await this.record(at);
    return found && { photo: found[0], layers: new Map(found[1]) };
  }

  inCard(key) {
    const layers = [...document.querySelectorAll(`.layer[data-of="${key}"]`)];
    const photo = document.getElementById(key).getAttribute("href");
    return [photo, layers.map(layer => [layer.dataset.title, layer.getAttribute("href")])];
  }

  async record(at) {
    if (at[0] === "i") return this.data.pictures[Number(at.slice(1))];
    const [file, place] = at.split(".").map(Number);
    return (await this.file(file))[place];
  }

  file(number) {
    const known = this.files.get(number) ?? this.load(number);
    this.files.delete(number); // the newest is the last
    this.files.set(number, known);
    if (this.files.size > FILES) this.files.delete(this.files.keys().next().value);
    return known;
  }

  load(number) {
    const script = document.createElement("script");
    const loaded = new Promise((resolve, reject) => {
      this.waiting.set(number, resolve);
      script.onerror = () => {
        this.files.delete(number);
        reject(new Error(`The pictures lie in the folder ${this.data.beside}, which is not beside this page: copy it, too, or make the report anew.`));
      };
    });
    script.src = `${this.data.beside}/${number}.js`;
    document.head.append(script);
    const done = () => {
      this.waiting.delete(number);
      script.remove();
    };
    loaded.then(done, done);
    return loaded;
  }

  // The small picture of an image in the list; rows that are only scrolled past ask for none.
  thumb(row) {
    const box = document.createElement("span");
    box.className = "thumb";
    setTimeout(async () => {
      if (!box.isConnected) return;
      const found = await this.pictures(row).catch(() => null);
      const mask = found?.layers.get("mask") ?? found?.layers.get("prediction");
      for (const address of [found?.photo, mask])
        if (address) box.append(Object.assign(new Image(), { src: address, alt: "", decoding: "async" }));
    }, 60);
    return box;
  }
}
