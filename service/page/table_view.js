// An opened table: the choice of the column with the texts, and the first rows.

import { byId, counted, el, fill, table } from "./dom.js";

const PREVIEW = 5;

/** Show the table `name` of {names, rows}; calls onChange(column) with the place of the chosen column, and onClose(). */
export function showTable(name, { names, rows }, onChange, onClose) {
  let column = guess(names, rows);
  const select = el(
    "select",
    { id: "text-column", onchange: () => choose(select.selectedIndex) },
    names.map((one, place) => el("option", { selected: place === column }, one)),
  );
  const preview = el("div");

  function choose(place) {
    column = place;
    fill(preview, firstRows(names, rows, column));
    onChange(column);
  }
  fill(
    byId("table"),
    el("h2", {}, name),
    el("p", { class: "small" }, `${counted(rows.length, "row")} in ${counted(names.length, "column")}. The file gets all columns, and those of the predictions.`),
    el("p", {}, el("label", { for: "text-column" }, "Column of texts "), select, " ", el("button", { type: "button", class: "plain", onclick: onClose }, "Close the table")),
    preview,
  );
  choose(column);
  select.focus();
}

/** Return the place of the column with texts: one of the usual names, else the one with the longest cells. */
function guess(names, rows) {
  const usual = names.findIndex((name) => /^(text|texts|sentence|comment|review|review.text|title|body|message)$/i.test(name.trim()));
  if (usual >= 0) return usual;
  const lengths = names.map((_, place) => rows.slice(0, 100).reduce((sum, { cells }) => sum + (cells[place] ?? "").length, 0));
  return Math.max(0, lengths.indexOf(Math.max(...lengths)));
}

function firstRows(names, rows, column) {
  const cell = (text, place) =>
    el("td", { class: place === column ? "text chosen" : null }, el("div", { class: "clamped" }, text ?? ""));
  const headings = names.map((text, place) => ({ text: place === column ? `${text} (texts)` : text }));
  const shown = rows.slice(0, PREVIEW).map(({ cells }) => el("tr", {}, names.map((_, place) => cell(cells[place], place))));
  return table("The first rows", headings, shown);
}
