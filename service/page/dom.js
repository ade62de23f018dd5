// Elements, numbers and sentences. Texts of users and replies become text nodes, never HTML.

export const byId = (id) => document.getElementById(id);

/** Return an element; attributes and children that are null, undefined or false are skipped. */
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

/** Replace the children of `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
}

/** Return a score as a percentage; only exact 0 and 1 round to 0 and 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.0001) return "<0.01 %";
  if (share < 1 && share > 0.9999) return ">99.99 %";
  return `${(100 * share).toFixed(2)} %`;
}

/** Return a threshold as a percentage without trailing zeros. */
export const level = (share) => `${Number((100 * share).toFixed(2))} %`;

export const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;

export const grouped = (number) => number.toLocaleString("en");

/** Return "1 text", "1,200 texts". */
export const counted = (number, word) => `${grouped(number)} ${word}${number === 1 ? "" : "s"}`;

/** Count characters as the server does: an emoji is one. */
export const characters = (text) => {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
};

export const bytesOf = (text) => new TextEncoder().encode(text).length;

let announcing;

/** Announce a sentence to screen readers after a pause; a newer one replaces it. */
export function announce(sentence) {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    byId("announcer").textContent = sentence;
  }, 600);
}

/** Return a table in a scrolling box that the keyboard can reach. */
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
