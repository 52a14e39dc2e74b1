// The image that is looked at: its mask, what was said of it, and every change saved at once.
import { bytes, get, picture, post } from "./server.js";
import { Mask } from "./mask.js";

export class Photo {
  constructor(id, colours, tell) {
    Object.assign(this, { id, colours, tell });
    this.work = Promise.resolve();
    this.waiting = 0;
  }

  async load() {
    const [about, raw, photo] = await Promise.all([
      get("image", { id: this.id }),
      bytes("mask", { id: this.id }),
      picture("photo", { id: this.id }),
    ]);
    this.about = about;
    this.photo = photo;
    this.mask = new Mask(new Uint8Array(raw.data), about.width, about.height, this.colours);
    return this;
  }

  async before() {
    const raw = await bytes("mask", { id: this.id, before: true });
    return new Mask(new Uint8Array(raw.data), this.mask.width, this.mask.height, this.colours);
  }

  async regions() {
    this.cut ??= bytes("regions", { id: this.id }).then(({ data, headers }) => ({
      numbers: new Uint16Array(data),
      width: Number(headers.get("X-Width")),
      height: Number(headers.get("X-Height")),
    }));
    return this.cut;
  }

  // Saves a rectangle of the mask as it is now.
  draw(box, action) {
    const body = this.mask.cut(box);
    return this.save(version => post("draw", { id: this.id, version, ...box, action }, body));
  }

  judge(state) {
    return this.save(version => post("judge", { id: this.id, version, state }));
  }

  tag(names) {
    return this.save(version => post("tags", { id: this.id, version }, names.join("\n")), true);
  }

  go(way) {
    return this.save(version => post(way, { id: this.id, version }), true);
  }

  // One change after the other: each names the version that the one before made.
  save(send, redraws = false) {
    this.waiting++;
    this.tell("saving");
    const done = this.work.then(async () => {
      try {
        Object.assign(this.about, await this.patiently(() => send(this.about.version)));
        if (redraws) await this.reread();
      } finally {
        this.waiting--;
      }
      if (!this.waiting) this.tell("saved");
    });
    this.work = done.catch(() => {});
    return done;
  }

  async reread() {
    const raw = await bytes("mask", { id: this.id });
    this.mask.labels.set(new Uint8Array(raw.data));
    this.mask.paint();
  }

  // A server that does not answer is asked again; what it refuses is refused.
  async patiently(send) {
    for (;;)
      try {
        return await send();
      } catch (error) {
        if (error.status) throw error;
        this.tell("failed");
        await new Promise(resolve => setTimeout(resolve, 1500));
      }
  }
}
