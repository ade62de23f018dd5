// The table of many texts: a row for each as it is answered, and how many got which label.

import { counted, el, grouped, percent, table } from "./dom.js";
import { model, MULTI } from "./model.js";

const MOST = 1000; // rows on the page; the file has all

/** Return {node, draw}: the table of `rows`, and what adds those that have come since. */
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
    const new_rows = [];
    while (drawn < Math.min(rows.length, MOST) && (rows[drawn].prediction || rows[drawn].problem)) {
      new_rows.push(lineOf(rows[drawn]));
      drawn += 1;
    }
    body.append(...new_rows);
    if (rows.length > MOST) more.textContent = `The table has the first ${grouped(MOST)}; the CSV file has all.`;
  }
  return { node: el("div", {}, box, more), draw };
}

function lineOf({ number, text, prediction, problem }) {
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

/** Return how many texts got which label, as the items of a list. */
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
    none > 0 && one(model.info.problem_type === MULTI ? "with no label" : "with no label named", none),
    cut > 0 && one("truncated", cut),
    refused > 0 && one(refused === 1 ? "could not be read: its row says why" : "could not be read: their rows say why", refused),
  ];
}

export const linesInWords = (texts, empty) =>
  `${counted(texts, "text")}${empty ? `; ${counted(empty, "empty line")} skipped` : ""}.`;
