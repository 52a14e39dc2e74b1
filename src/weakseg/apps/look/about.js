// What is told of an image beside its photo.
const $ = id => document.getElementById(id);

export const made = (tag, text, attributes = {}) => {
  const element = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) element.textContent = text;
  return element;
};

export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

export function showAbout(about) {
  $("name").textContent = about.id;
  $("name").title = about.file;
  $("state").textContent = about.state;
  $("state").className = `state ${about.state}`;
  $("why-section").hidden = !about.doubts?.length;
  $("why").replaceChildren(
    ...(about.doubts ?? []).map(({ kind, text }) => {
      const item = made("li", undefined, { className: kind });
      item.innerHTML = text; // made safe by Python, with <em> alone
      return item;
    }),
  );
}

export function showMaps(kinds, chosen) {
  const options = [["", "No map over the photo"], ...kinds.map(kind => [kind, `Map: ${kind}`])];
  $("overlay").replaceChildren(
    ...options.map(([value, text]) => made("option", text, { value, selected: value === chosen })),
  );
}
