// Keys for everything: one table, which the page's help shows, too.
const $ = id => document.getElementById(id);

export function keyTable(desk, tools) {
  const row = (keys, name, run) => ({ keys, name, run });
  return [
    row(["ArrowRight", "n"], "Next image", () => desk.step(1)),
    row(["ArrowLeft", "p"], "Previous image", () => desk.step(-1)),
    row(["a"], "Accept the mask", () => desk.judge("accepted")),
    row(["x"], "Reject the mask", () => desk.judge("rejected")),
    row(["u"], "Leave it open again", () => desk.judge("open")),
    row(["Ctrl+z", "z"], "Undo", () => desk.go("undo")),
    row(["Ctrl+y", "Ctrl+Shift+z", "y"], "Redo", () => desk.go("redo")),
    ...tools.map(tool => row([tool.key], tool.name.split(":")[0], () => desk.use(tool.id))),
    row(["1", "2", "3", "4", "5", "6", "7", "8", "9"], "Draw this class", key => desk.pick(Number(key))),
    row(["c"], "Draw the next class", () => desk.pick((desk.label % desk.classes.length) + 1)),
    row(["t"], "Tag or untag the class", () => desk.toggle(desk.classes[desk.label - 1].name)),
    row(["["], "Smaller brush", () => desk.size(desk.radius / 1.25)),
    row(["]"], "Larger brush", () => desk.size(desk.radius * 1.25)),
    row(["Enter"], "Close the polygon", () => desk.confirm()),
    row(["Escape"], "Give up what is drawn", () => desk.tool.cancel?.()),
    row(["+", "="], "Zoom in", () => desk.view.zoom(1.25)),
    row(["-"], "Zoom out", () => desk.view.zoom(0.8)),
    row(["0"], "Whole photo", () => desk.view.fit()),
    row([","], "Mask fainter", () => desk.opacity(-10)),
    row(["."], "Mask stronger", () => desk.opacity(10)),
    row(["h"], "Hide the mask", () => desk.peek()),
    row(["v"], "Mask as the run had made it", () => desk.before()),
    row(["o"], "Next map over the photo", () => desk.nextMap()),
    row(["/"], "Find a file", () => document.querySelector("[name=text]").focus()),
    row(["?"], "These keys", () => $("help").showModal()),
  ];
}
