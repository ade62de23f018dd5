// The contribution of each word to a label: shaded text with signed points, and the same as a table.

import { el, table } from "./dom.js";
import { isNumber, model, scoreInWords } from "./model.js";

/** Return a contribution in percentage points, with its sign. */
const points = (share) => {
  const rounded = ((isNumber() ? 1 : 100) * share).toFixed(2);
  return Number(rounded) === 0 ? "0.00" : share > 0 ? `+${rounded}` : rounded.replace("-", "−");
};

const kind = (share) => (share > 0 ? "for" : share < 0 ? "against" : "");

/** Return the nodes for `explanation`; a choice of another label calls `onLabel(label)`.
 *
 * texts: the text, or both texts of a pair, by the names of the request.
 */
export function explanationNodes(texts, explanation, onLabel) {
  const { label, score, parts, cost } = explanation;
  const strongest = Math.max(...parts.map((part) => Math.abs(part.contribution)), Number.MIN_VALUE);
  const grouped = parts.some((part) => part.words > 1);
  return [
    el("div", { class: "heading-row" }, el("h2", {}, "Explanation"), labelSelect(label, onLabel)),
    el("p", {}, `Score of ${label}: ${scoreInWords(score)}. Each word shows ${isNumber() ? "how much" : "the points"} the score loses without this word. A minus is a gain.`),
    parts.length === 0 && el("p", {}, "This text has no word to leave out."),
    Object.entries(texts).map(([side, text]) => {
      const own = parts.filter((part) => (part.side ?? "text") === side);
      return el("p", { class: "shaded", "aria-hidden": "true" }, shaded(text, own, strongest));
    }),
    table(
      `Contributions to ${label}`,
      ["Part", { text: "Points", number: true }, "Effect"],
      parts.map((part) => row(part)),
      { id: "parts" },
    ),
    grouped && el("p", { class: "small" }, "Words with little effect of their own are left out together."),
    explanation.truncated && el("p", { class: "usage cut" }, "The model did not use the pale words."),
    el("p", { class: "small" }, `Method: ${explanation.method}, with ${cost.runs} runs of the model and ${cost.tokens} tokens.`),
  ];
}

function labelSelect(label, onLabel) {
  const labels = model.info?.labels ?? [label];
  const select = el(
    "select",
    { id: "explained-label" },
    labels.map((one) => el("option", { value: one, selected: one === label }, one)),
  );
  select.addEventListener("change", () => onLabel(select.value));
  return el("div", { class: "inline-field" }, el("label", { for: "explained-label" }, "Label"), select);
}

/** Return the whole text in order. The offsets count characters as Python does: an emoji is one. */
function shaded(text, parts, strongest) {
  const all = Array.from(text);
  const nodes = [];
  let end = 0;
  const between = (from, to) => {
    const skipped = all.slice(from, to).join("");
    if (skipped.trim()) nodes.push(el("span", { class: "unused" }, skipped));
    else nodes.push(skipped);
  };
  for (const part of parts) {
    between(end, part.start);
    const node = el(
      "span",
      { class: `part ${kind(part.contribution)}` },
      part.text,
      el("span", { class: "points" }, points(part.contribution)),
    );
    node.style.setProperty("--strength", `${Math.round((34 * Math.abs(part.contribution)) / strongest)}%`);
    nodes.push(node);
    end = part.end;
  }
  between(end, all.length);
  return nodes;
}

function row({ text, words, contribution }) {
  const effect = { for: "for", against: "against", "": "none" }[kind(contribution)];
  return el(
    "tr",
    { "data-contribution": String(contribution) },
    el("th", { scope: "row", class: "text" }, text, words > 1 && el("span", { class: "small" }, ` (${words} words)`)),
    el("td", { class: "number" }, points(contribution)),
    el("td", {}, effect),
  );
}
