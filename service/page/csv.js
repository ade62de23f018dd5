// Rows as CSV (RFC 4180) that spreadsheets open without running anything that is in it.

import { model } from "./model.js";

// A cell that begins so is a formula to a spreadsheet; an apostrophe before it makes it text.
const FORMULA = /^[=+\-@\t\r]/;

/** Return one cell: a number as it is, a text quoted where it must be and never a formula. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Return the file: a line for each row, its scores unrounded, a column of them for each label. */
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
    const error = problem ?? (prediction ? null : "not asked");
    return [number, text, label, score, named?.join("|"), ...all, tokens, truncated, windows, abstained, error];
  });
  // The byte order mark tells spreadsheets that it is UTF-8.
  return `\ufeff${[head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** Let the browser save `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // it is read after the click
}
