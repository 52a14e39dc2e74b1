// What is told of an image beside its photo, and what can be done to it.
import { css, made } from "./about.js";

const $ = id => document.getElementById(id);

// The classes: which is drawn, and which are in the image.
export function showClasses(classes, about, label, { pick, toggle }) {
  const list = $("classes");
  if (list.children.length !== classes.length)
    list.replaceChildren(
      ...classes.map(({ name, colour }, k) => {
        const item = made("li");
        item.style.setProperty("--c", css(colour));
        const button = made("button", undefined, { type: "button", className: "pick", title: `Draw ${name}` });
        button.append(made("i"), made("span", name));
        if (k < 9) button.append(made("kbd", String(k + 1)));
        button.addEventListener("click", () => pick(k + 1));
        const box = made("label", undefined, { className: "switch", title: `Whether ${name} is in the image` });
        const input = made("input", undefined, { type: "checkbox", ariaLabel: `${name} is in the image` });
        input.addEventListener("change", () => toggle(name));
        box.append(input);
        item.append(button, box);
        return item;
      }),
    );
  [...list.children].forEach((item, k) => {
    item.querySelector(".pick").setAttribute("aria-pressed", String(k + 1 === label));
    item.querySelector("input").checked = about.tags.includes(classes[k].name);
  });
}

export function showHistory(history) {
  const rows = history.map(({ who, when, action, now }) => {
    const item = made("li");
    if (now) item.setAttribute("aria-current", "step");
    const time = made("time", new Date(when).toLocaleString([], { dateStyle: "short", timeStyle: "short" }));
    time.dateTime = when;
    item.append(made("span", action === "run" ? who : `${action} · ${who}`), time);
    return item;
  });
  $("history").replaceChildren(...(rows.length ? rows.reverse() : [made("li", "none so far")]));
}

export function showProgress({ counts, images, looked_at, ready }) {
  const done = images - counts.open;
  const progress = $("progress");
  progress.replaceChildren(made("b", done.toLocaleString()), ` of ${images.toLocaleString()} reviewed`);
  if (!ready) progress.append(` · looking for doubts, ${Math.floor((100 * looked_at) / images)} %`);
}

// What a tool can be told: its class, its size, which side a scribble is on.
export function showOptions(desk) {
  const box = $("options");
  const { id } = desk.toolRow;
  const parts = [];
  const name = desk.classes[desk.label - 1]?.name ?? "";
  if (id === "brush" || id === "eraser") {
    const label = made("label", `Size `);
    const range = made("input", undefined, { type: "range", min: 1, max: 100, value: Math.round(desk.radius), ariaLabel: "Size of the brush" });
    range.addEventListener("input", () => desk.size(Number(range.value)));
    label.append(range);
    parts.push(made("b", id === "brush" ? `Brush: ${name}` : "Eraser"), label);
  }
  if (id === "scribble") {
    const segments = made("div", undefined, { className: "segments" });
    for (const [beside, text] of [[false, "On it"], [true, "Beside it"]]) {
      const button = made("button", text, { type: "button" });
      button.setAttribute("aria-pressed", String(desk.beside === beside));
      button.addEventListener("click", () => desk.side(beside));
      segments.append(button);
    }
    parts.push(made("b", `Scribble: ${name}`), segments, made("p", "Shift: the other side."));
  }
  if (id === "polygon") {
    const button = made("button", "Close", { type: "button" });
    button.addEventListener("click", () => desk.confirm());
    const segments = made("div", undefined, { className: "segments" });
    segments.append(button);
    parts.push(made("b", `Polygon: ${name}`), segments, made("p", "Enter or the first corner closes it."));
  }
  if (id === "region") parts.push(made("b", `Region: ${name}`), made("p", "Click adds or removes; drag takes several."));
  if (id === "fill") parts.push(made("b", `Fill: ${name}`), made("p", "Click fills what is connected and alike."));
  box.replaceChildren(...parts);
  box.hidden = !parts.length;
}
