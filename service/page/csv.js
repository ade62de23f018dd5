// Rows as CSV (RFC 4180), safe to open in a spreadsheet.

import { model } from "./model.js";

// A spreadsheet runs a cell with such a start as a formula. A leading apostrophe makes it text.
const FORMULA = /^[=+\-@\t\r]/;

/** Return whether a spreadsheet would run `text` as a formula. */
export const isFormula = (text) => FORMULA.test(text);

/** Return one cell: numbers unchanged, texts quoted if necessary and never a formula. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = isFormula(value) ? `'${value}` : value;
  return /[",\r\n]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
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

/** Let the browser save `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
}
