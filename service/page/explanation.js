// What each part of a text contributes to a label: the text, shaded and signed, and the same as a table.

import { el, percent, table } from "./dom.js";
import { model } from "./model.js";

/** Return a contribution in percentage points, always with its sign. */
const points = (share) => {
  const rounded = (100 * share).toFixed(2);
  return Number(rounded) === 0 ? "0.00" : share > 0 ? `+${rounded}` : rounded.replace("-", "−");
};

const kind = (share) => (share > 0 ? "for" : share < 0 ? "against" : "");

/** Return the nodes that show `explanation` of `text`; `other(label)` asks for that of another label. */
export function explanationNodes(text, explanation, other) {
  const { label, score, parts, cost } = explanation;
  const most = Math.max(...parts.map((part) => Math.abs(part.contribution)), Number.MIN_VALUE);
  const several = parts.some((part) => part.words > 1);
  const meaning =
    `${label} has ${percent(score)}. Each figure is by how many points less it would have without those words; ` +
    "where there is a minus, it would have more.";
  return [
    el("div", { class: "heading-row" }, el("h2", {}, "Why this label"), labelSelect(label, other)),
    el("p", {}, meaning),
    parts.length === 0 && el("p", {}, "There is no word in this text that could be left out."),
    el("p", { class: "shaded", "aria-hidden": "true" }, shaded(text, parts, most)),
    table(
      `What each part contributes to ${label}`,
      ["Part", { text: "Points", number: true }, "Says"],
      parts.map((part) => row(part)),
      { id: "parts" },
    ),
    several && el("p", { class: "small" }, "Words that say little when they stand alone are left out together."),
    explanation.truncated && el("p", { class: "read cut" }, "Words that went unread contribute nothing and are pale."),
    el("p", { class: "small" }, `By ${explanation.method}: ${cost.runs} runs of the model, ${cost.tokens} tokens.`),
  ];
}

function labelSelect(label, other) {
  const labels = model.info?.labels ?? [label];
  const select = el(
    "select",
    { id: "explained-label" },
    labels.map((one) => el("option", { value: one, selected: one === label }, one)),
  );
  select.addEventListener("change", () => other(select.value));
  return el("div", { class: "inline-field" }, el("label", { for: "explained-label" }, "Label"), select);
}

/** Return the whole text in order; start and end count characters as Python does, so that a smiley is one. */
function shaded(text, parts, most) {
  const all = Array.from(text);
  const nodes = [];
  let end = 0;
  const between = (from, to) => {
    const passed = all.slice(from, to).join("");
    if (passed.trim()) nodes.push(el("span", { class: "unread" }, passed));
    else nodes.push(passed);
  };
  for (const part of parts) {
    between(end, part.start);
    const node = el(
      "span",
      { class: `part ${kind(part.contribution)}` },
      part.text,
      el("span", { class: "points" }, points(part.contribution)),
    );
    node.style.setProperty("--strength", `${Math.round((34 * Math.abs(part.contribution)) / most)}%`);
    nodes.push(node);
    end = part.end;
  }
  between(end, all.length);
  return nodes;
}

function row({ text, words, contribution }) {
  const says = { for: "for it", against: "against it", "": "nothing" }[kind(contribution)];
  return el(
    "tr",
    { "data-contribution": String(contribution) },
    el("th", { scope: "row", class: "text" }, text, words > 1 && el("span", { class: "small" }, ` (${words} words)`)),
    el("td", { class: "number" }, points(contribution)),
    el("td", {}, says),
  );
}
