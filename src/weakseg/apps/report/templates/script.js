// Pictures of cards are enlarged, and cards filtered by their reasons.
const dialog = document.getElementById("large");
const stage = dialog.querySelector("div");
for (const panel of document.querySelectorAll(".panel"))
  panel.addEventListener("click", () => {
    const picture = panel.querySelector("svg").cloneNode(true);
    picture.querySelector("[id]")?.removeAttribute("id");
    stage.replaceChildren(picture);
    const { width, height } = picture.viewBox.baseVal;
    stage.style.setProperty("--aspect", width / height);
    dialog.querySelector("p").textContent =
      panel.closest(".card").querySelector("h3").textContent + " · " + panel.textContent;
    dialog.showModal();
  });
dialog.addEventListener("click", () => dialog.close());
for (const filter of document.querySelectorAll(".filter")) {
  filter.hidden = false;
  const buttons = filter.querySelectorAll("button");
  for (const button of buttons)
    button.addEventListener("click", () => {
      for (const other of buttons) other.ariaPressed = String(other === button);
      for (const card of filter.nextElementSibling.children)
        card.hidden = button.dataset.kind !== "" && !card.dataset.kinds.split(" ").includes(button.dataset.kind);
    });
}
