// Rows as CSV (RFC 4180), safe to open in a spreadsheet.

import { model } from "./model.js";

// A spreadsheet runs a cell with such a start as a formula. A leading apostrophe makes it text.
const FORMULA = /^[=+\-@\t\r]/;

/** Return whether a spreadsheet would run `text` as a formula. */
export const isFormula = (text) => FORMULA.test(text);

/** Return one cell: numbers unchanged, texts quoted if necessary and never a formula. */
export function cell(value) {
  return quoted(typeof value === "string" && isFormula(value) ? `'${value}` : value);
}

/** Return the file: one line per row, one column of unrounded scores per label. */
export function csvOf(rows) {
  const labels = model.info.labels;
  const head = [
    "line",
    "text",
    "label",
    "score",
    "labels",
    ...labels.map((label) => `score of ${label}`),
    "num_tokens",
    "truncated",
    "windows",
    "abstained",
    "error",
  ];
  const lines = rows.map(({ number, text, prediction, problem }) => {
    const { label, score, labels: named, scores, num_tokens: tokens, truncated, windows, abstained } = prediction ?? {};
    const all = labels.map((one) => (scores && Object.hasOwn(scores, one) ? scores[one] : null));
    const error = problem ?? (prediction ? null : "not sent");
    return [number, text, label, score, named?.join("|"), ...all, tokens, truncated, windows, abstained, error];
  });
  // The byte order mark tells spreadsheets that the file is UTF-8.
  return `\ufeff${[head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** Return the columns of the predictions, as `inferer predict` names them: pairs of a name and its value's function. */
export function predictedColumns() {
  const several = model.info.problem_type === "multi_label_classification";
  const abstains = typeof model.info.abstain_threshold === "number";
  return [
    ["predicted_label", ({ label }) => label],
    ["predicted_score", ({ score }) => score],
    several && ["predicted_labels", ({ labels }) => JSON.stringify(labels)],
    abstains && ["predicted_abstained", ({ abstained }) => abstained],
    ["num_tokens", ({ num_tokens: tokens }) => tokens],
    ["truncated", ({ truncated }) => truncated],
  ].filter(Boolean);
}

/** Return the file of a table: all its columns and those of the predictions.
 *
 * The user's cells stay as they are: an apostrophe before a minus would change a number.
 */
export function tableCsvOf(names, rows) {
  const predicted = predictedColumns();
  const lines = rows.map(({ cells, prediction, problem }) => [
    ...names.map((_, place) => cells[place]),
    ...predicted.map(([, value]) => (prediction ? value(prediction) : null)),
    problem ?? (prediction ? null : "not sent"),
  ]);
  const head = [...names, ...predicted.map(([name]) => name), "error"];
  return `\ufeff${[head, ...lines].map((cells) => cells.map(quoted).join(",")).join("\r\n")}\r\n`;
}

function quoted(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Let the browser save `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
}
