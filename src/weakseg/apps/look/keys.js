// Keys for everything.
const $ = id => document.getElementById(id);

const SHOWN = { ArrowRight: "→", ArrowLeft: "←", Escape: "Esc" };
const shown = key => key.split("+").map(part => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part)).join("+") || "+";

// Listens to a table of keys and shows it in the page's help. `held`, if given, tells whether space is held.
export function listen(table, held = null, redraw = () => {}) {
  const byKey = new Map(table.flatMap(row => row.keys.map(key => [key, row])));
  $("help").querySelector("dl").replaceChildren(
    ...table.map(({ keys, name }) => {
      const item = document.createElement("div");
      const term = document.createElement("dt");
      const told = document.createElement("dd");
      term.textContent = name;
      const few = keys.length > 3 ? [keys[0], "…", keys.at(-1)] : keys;
      for (const key of few) {
        const box = document.createElement("kbd");
        box.textContent = key === "+" ? "+" : shown(key);
        told.append(box, " ");
      }
      item.append(term, told);
      return item;
    }),
  );

  addEventListener("keydown", event => {
    const { target } = event;
    if (target.closest?.("dialog[open]")) return;
    if (target.matches?.("input[type=search], select")) {
      if (event.key === "Escape" || (event.key === "Enter" && target.type === "search")) target.blur();
      return;
    }
    if (held && event.key === " " && !target.matches?.("button, input")) {
      held.space = true;
      redraw();
      event.preventDefault();
      return;
    }
    if (event.altKey) return;
    if (target.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (event.key === "Enter" && target.matches?.("button")) return;
    const command = event.ctrlKey || event.metaKey;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const row = byKey.get(command ? `Ctrl+${event.shiftKey ? "Shift+" : ""}${name}` : name);
    if (!row) return;
    event.preventDefault();
    row.run(name);
  });
  if (!held) return;
  addEventListener("keyup", event => {
    if (event.key === " ") held.space = false;
    redraw();
  });
  addEventListener("blur", () => (held.space = false));
}
