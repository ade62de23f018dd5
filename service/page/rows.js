// The table of many texts, and the number of texts per label.

import { counted, el, grouped, percent, table } from "./dom.js";
import { model } from "./model.js";

const MAX_ROWS = 1000; // on the page; the CSV file has all

/** Return {node, draw}: the table of `rows`, and a function that adds the rows finished since its last call. */
export function rowsTable(rows) {
  const headings = ["Line", "Text", "Labels", "Score", "Tokens", "Truncated"];
  const numbers = new Set(["Line", "Score", "Tokens"]);
  const box = table(
    "Texts and their labels",
    headings.map((text) => ({ text, number: numbers.has(text) })),
    [],
    { class: "scroll tall" },
  );
  const body = box.querySelector("tbody");
  const more = el("p", { class: "small" });
  let drawn = 0;

  function draw() {
    const added = [];
    while (drawn < Math.min(rows.length, MAX_ROWS) && (rows[drawn].prediction || rows[drawn].problem)) {
      added.push(rowNode(rows[drawn]));
      drawn += 1;
    }
    body.append(...added);
    if (rows.length > MAX_ROWS) more.textContent = `The table shows the first ${grouped(MAX_ROWS)}; the CSV file has all.`;
  }
  return { node: el("div", {}, box, more), draw };
}

function rowNode({ number, text, prediction, problem }) {
  const start = [el("td", { class: "number" }, grouped(number)), el("td", { class: "text" }, el("div", { class: "clamped" }, text))];
  if (problem) return el("tr", { class: "refused" }, start, el("td", { colspan: "4" }, problem));
  const { label, score, labels, scores, num_tokens: tokens, truncated } = prediction;
  const named = labels.length > 0;
  return el(
    "tr",
    {},
    start,
    named ? el("td", {}, labels.join(", ")) : el("td", { class: "none" }, "none ", el("span", { class: "small" }, `(best: ${label})`)),
    el("td", { class: "number" }, named ? labels.map((one) => percent(scores[one])).join(", ") : percent(score)),
    el("td", { class: "number" }, grouped(tokens)),
    el("td", {}, truncated ? "yes" : "no"),
  );
}

/** Return the number of texts per label, as items of a list. */
export function tally(rows) {
  const counts = new Map(model.info.labels.map((label) => [label, 0]));
  let none = 0;
  for (const { prediction } of rows) {
    if (!prediction) continue;
    for (const label of prediction.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    if (prediction.labels.length === 0) none += 1;
  }
  const found = [...counts].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
  const refused = rows.filter((row) => row.problem).length;
  const cut = rows.filter((row) => row.prediction?.truncated).length;
  const one = (name, count) => el("li", {}, el("strong", {}, grouped(count)), ` ${name}`);
  return [
    ...found.map(([label, count]) => one(label, count)),
    none > 0 && one("without a label", none),
    cut > 0 && one("truncated", cut),
    refused > 0 && one(refused === 1 ? "rejected: see its row" : "rejected: see their rows", refused),
  ];
}

export const lineCount = (texts, empty) =>
  `${counted(texts, "text")}${empty ? `; ${counted(empty, "empty line")} skipped` : ""}.`;
