// The view of many texts, one per line: several requests, a table, a CSV file.

import { nextBatch, requestBody, sendAll } from "./batch.js";
import { csvOf, download, isFormula } from "./csv.js";
import { commandDetails } from "./curl.js";
import { announce, byId, counted, el, fill, grouped } from "./dom.js";
import { model } from "./model.js";
import { optionsWithAllScores } from "./options.js";
import { problem } from "./problem.js";
import { lineCount, rowsTable, tally } from "./rows.js";

const HELP = "Paste a spreadsheet column or open a text file. Empty lines are skipped.";
const ANNOUNCE_MS = 5000;

const field = byId("lines");
let rows = [];
let view = null;
let running = null; // the AbortController of the present run
let options = {}; // of the visible rows
let announced = 0;

// A line of such a file is not a text: it has other columns, a header and quotes.
const TABLE = /\.(csv|tsv|tab|jsonl?|ndjson|parquet|xlsx?|ods)(\.\w+)?$/i;

const linesOf = (text) => text.split(/\r\n|\n|\r/);

/** Return the texts of the field as rows with their line numbers. */
function rowsOfField() {
  return linesOf(field.value)
    .map((text, index) => ({ number: index + 1, text }))
    .filter(({ text }) => text.trim());
}

/** Update the curl command after a change of the lines, the options or the key. */
export const updateCommand = commandDetails("many-curl", () => {
  const all = rowsOfField();
  const selected = optionsWithAllScores();
  const batch = model.info ? nextBatch(all, model.info.limits, selected, model.info.limits.max_texts) : all;
  const note =
    batch.length < all.length &&
    `This command has the first ${grouped(batch.length)} of ${counted(all.length, "text")}, the most for one request.`;
  return [{ name: "the command of these texts", path: "predict", body: requestBody(batch, selected), note }];
});

/** Note a change of the lines, an option or the model. */
export function changed() {
  const texts = rowsOfField().length;
  const lines = field.value === "" ? 0 : linesOf(field.value).length;
  byId("lines-count").textContent = lines ? lineCount(texts, lines - texts) : HELP;
  updateCommand();
}

function begin() {
  if (running) return;
  rows = rowsOfField();
  fill(byId("many-problem"));
  if (rows.length === 0) {
    fill(byId("note"), "No text yet. Paste some lines first.");
    field.focus();
    return;
  }
  options = optionsWithAllScores();
  view = rowsTable(rows);
  fill(byId("rows"), el("ul", { class: "tally", id: "tally" }), view.node);
  send();
}

async function send() {
  if (!model.info) {
    const error = Object.assign(new Error("The model is still loading."), { next: "Try again in a moment." });
    fill(byId("many-problem"), problem(error, send));
    return;
  }
  running = new AbortController();
  fill(byId("many-problem"));
  fill(byId("note"));
  updateButtons();
  announce(`Classifying ${counted(rows.length, "text")}.`);
  let outcome = "Done";
  try {
    const { signal } = running;
    const onWait = (sentence) => fill(byId("note"), sentence);
    await sendAll(rows, { limits: model.info.limits, options, signal, onProgress: showProgress, onWait });
  } catch (error) {
    outcome = "Stopped";
    if (error.name !== "AbortError") fill(byId("many-problem"), problem(error, send));
  }
  running = null;
  showProgress();
  updateButtons();
  const left = rows.length - finished();
  const sentence = `${outcome}: ${grouped(finished())} of ${counted(rows.length, "text")}${left ? `, ${grouped(left)} left` : ""}.`;
  fill(byId("note"), sentence, formulaNote());
  announce(sentence);
}

const finished = () => rows.filter((row) => row.prediction || row.problem).length;

function showProgress() {
  const count = finished();
  byId("bar").max = rows.length;
  byId("bar").value = count;
  byId("count").textContent = `${grouped(count)} of ${grouped(rows.length)}`;
  view.draw();
  fill(byId("tally"), tally(rows));
  if (running && performance.now() - announced > ANNOUNCE_MS) {
    announced = performance.now();
    announce(byId("count").textContent);
  }
}

/** Return a note about the texts that the CSV file protects from a spreadsheet. */
function formulaNote() {
  const count = rows.filter(({ text }) => isFormula(text)).length;
  if (!count) return null;
  return ` The CSV file has an apostrophe before ${counted(count, "text")} that a spreadsheet would run as a formula.`;
}

/** Show the buttons that apply. The focus never disappears with a button. */
function updateButtons() {
  const { activeElement } = document;
  const left = rows.length - finished();
  byId("progress").hidden = rows.length === 0;
  byId("stop").hidden = !running;
  byId("continue").hidden = Boolean(running) || left === 0 || byId("many-problem").hasChildNodes();
  byId("download").hidden = Boolean(running) || finished() === 0;
  byId("classify-all").disabled = Boolean(running);
  if (activeElement?.hidden || activeElement?.disabled) byId(running ? "stop" : "classify-all").focus();
}

async function open(file) {
  const text = TABLE.test(file.name) ? null : await file.text();
  if (text === null || text.includes("\0")) {
    const remedy = "Paste its column of texts here, or score the whole file by the command inferer predict.";
    fill(byId("note"), `${file.name} is ${text === null ? "a table" : "not a text file"}, not lines of texts. ${remedy}`);
    return;
  }
  field.value = text.replace(/[\r\n]+$/, "");
  changed();
  fill(byId("note"), text.includes("\ufffd") ? `${file.name} is not UTF-8: unreadable bytes became \ufffd.` : "");
}

export function start() {
  field.addEventListener("input", changed);
  byId("classify-all").addEventListener("click", begin);
  byId("stop").addEventListener("click", () => running?.abort());
  byId("continue").addEventListener("click", send);
  byId("download").addEventListener("click", () => download(csvOf(rows), `${model.info.model}.csv`));
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = ""; // allows the same file again
  });
  changed();
}
