// Elements, numbers and sentences. Whatever came from a person or a reply becomes a text node, never HTML.

export const byId = (id) => document.getElementById(id);

/** Return an element; what is null, undefined or false among attributes and children is left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** Put `children` in place of what `node` has. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
}

/** Return a score as a percentage that never claims 0 or 100 when it is neither. */
export function percent(share) {
  if (share > 0 && share < 0.0001) return "<0.01 %";
  if (share < 1 && share > 0.9999) return ">99.99 %";
  return `${(100 * share).toFixed(2)} %`;
}

/** Return a threshold as a percentage without zeros at its end. */
export const level = (share) => `${Number((100 * share).toFixed(2))} %`;

export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;

export const grouped = (number) => number.toLocaleString("en");

/** Return "1 text", "1,200 texts". */
export const counted = (number, word) => `${grouped(number)} ${word}${number === 1 ? "" : "s"}`;

/** Return characters as the server counts them: a smiley is one. */
export const characters = (text) => {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
};

export const bytesOf = (text) => new TextEncoder().encode(text).length;

let announcing;

/** Tell a screen reader, once things have settled: while somebody types, only the last is said. */
export function announce(sentence) {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    byId("announcer").textContent = sentence;
  }, 600);
}

/** Return a table that scrolls in a box of its own, which the keyboard reaches too. */
export function table(name, headings, rows, attributes = {}) {
  const head = headings.map((heading) =>
    el("th", { scope: "col", class: heading.number ? "number" : null }, heading.text ?? heading),
  );
  return el(
    "div",
    { class: "scroll", role: "group", "aria-label": name, tabindex: "0", ...attributes },
    el("table", {}, el("caption", { class: "hidden" }, name), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
  );
}
