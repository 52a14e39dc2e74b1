// Mouse, pen and fingers: one draws, two fingers, the middle button or space move and zoom.
export function follow(view, tool, held) {
  const { canvas } = view;
  const fingers = new Map();
  let mode = null; // "draw", "move" or "pinch"
  let last = null;

  const middle = () => {
    const [a, b] = [...fingers.values()];
    return { x: (a.sx + b.sx) / 2, y: (a.sy + b.sy) / 2, apart: Math.hypot(a.sx - b.sx, a.sy - b.sy) };
  };

  canvas.addEventListener("pointerdown", event => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const point = view.point(event);
    fingers.set(event.pointerId, point);
    if (fingers.size === 2) {
      if (mode === "draw") tool().cancel?.();
      mode = "pinch";
      last = middle();
      return;
    }
    if (fingers.size > 2) return;
    const moves = event.button === 1 || held.space || tool().moves;
    mode = moves ? "move" : "draw";
    last = point;
    if (mode === "draw") tool().down?.(point, event);
    canvas.classList.toggle("moving", moves);
  });

  canvas.addEventListener("pointermove", event => {
    const point = view.point(event);
    if (!fingers.has(event.pointerId)) {
      tool().hover?.(point, event);
      view.draw();
      return;
    }
    fingers.set(event.pointerId, point);
    if (mode === "pinch" && fingers.size === 2) {
      const now = middle();
      view.move(now.x - last.x, now.y - last.y);
      if (last.apart) view.zoom(now.apart / last.apart, now);
      last = now;
    } else if (mode === "move") {
      view.move(point.sx - last.sx, point.sy - last.sy);
      last = point;
    } else if (mode === "draw") {
      for (const each of event.getCoalescedEvents?.() ?? [event]) tool().move?.(view.point(each), event);
      view.draw();
    }
  });

  const end = event => {
    if (!fingers.delete(event.pointerId)) return;
    if (mode === "draw" && !fingers.size)
      event.type === "pointercancel" ? tool().cancel?.() : tool().up?.(view.point(event), event);
    if (!fingers.size) mode = null;
    else if (mode === "pinch") mode = "spent"; // the finger that is left draws nothing
    canvas.classList.remove("moving");
    view.draw();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => {
    tool().leave?.();
    view.draw();
  });
  canvas.addEventListener("dblclick", event => tool().twice?.(view.point(event)));
  canvas.addEventListener("contextmenu", event => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    event => {
      if (tool().scrolls && !event.ctrlKey) return; // the wheel is the page's
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      const at = view.point(event);
      view.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), { x: at.sx, y: at.sy });
    },
    { passive: false },
  );
}
