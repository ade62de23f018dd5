// The view of many texts, one per line or in a column of a table: several requests, a list, a CSV file.

import { nextBatch, requestBody, sendAll } from "./batch.js";
import { csvOf, download, isFormula, predictedColumns, tableCsvOf } from "./csv.js";
import { commandDetails } from "./curl.js";
import { announce, byId, counted, el, fill, grouped } from "./dom.js";
import { model } from "./model.js";
import { optionsWithAllScores } from "./options.js";
import { problem } from "./problem.js";
import { lineCount, rowsTable, tally } from "./rows.js";
import { readTable, TableError } from "./table_file.js";
import { showTable } from "./table_view.js";

const HELP = "Paste a spreadsheet column, or open a text file or a CSV. Empty lines are skipped.";
const ANNOUNCE_MS = 5000;

const field = byId("lines");
let opened = null; // a table: {name, names, rows, column}, instead of the field's lines
let rows = [];
let sent = null; // the table that `rows` are of, or null
let view = null;
let running = null; // the AbortController of the present run
let options = {}; // of the visible rows
let announced = 0;

const CSV = /\.(csv|tsv|tab)$/i;
// A line of such a file is not a text either.
const OTHER_TABLE = /\.((csv|tsv|tab)\.\w+|(jsonl?|ndjson|parquet|xlsx?|ods)(\.\w+)?)$/i;

const linesOf = (text) => text.split(/\r\n|\n|\r/);

/** Return the texts of the table or the field as rows with their line numbers. */
function rowsToSend() {
  if (opened) {
    const { column } = opened;
    return opened.rows.map(({ line, cells, fault }) => {
      const text = cells[column] ?? "";
      const problem = fault ?? (text.trim() ? null : "the text is empty");
      return problem ? { number: line, text, cells, problem } : { number: line, text, cells };
    });
  }
  return linesOf(field.value)
    .map((text, index) => ({ number: index + 1, text }))
    .filter(({ text }) => text.trim());
}

/** Update the curl command after a change of the lines, the options or the key. */
export const updateCommand = commandDetails("many-curl", () => {
  const all = rowsToSend();
  const selected = optionsWithAllScores();
  const batch = model.info ? nextBatch(all, model.info.limits, selected, model.info.limits.max_texts) : all;
  const note =
    batch.length < all.length &&
    `This command has the first ${grouped(batch.length)} of ${counted(all.length, "text")}, the most for one request.`;
  return [{ name: "the command of these texts", path: "predict", body: requestBody(batch, selected), note }];
});

/** Note a change of the lines, an option or the model. */
export function changed() {
  if (opened) {
    updateCommand();
    return;
  }
  const texts = rowsToSend().length;
  const lines = field.value === "" ? 0 : linesOf(field.value).length;
  byId("lines-count").textContent = lines ? lineCount(texts, lines - texts) : HELP;
  updateCommand();
}

function begin() {
  if (running) return;
  rows = rowsToSend();
  sent = opened;
  fill(byId("many-problem"));
  if (rows.length === 0) {
    fill(byId("note"), opened ? `${opened.name} has only a header.` : "No text yet. Paste some lines first.");
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
  if (sent) return null; // its cells stay as they are
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
  if (running) return;
  if (CSV.test(file.name)) {
    await openTable(file);
    return;
  }
  const text = OTHER_TABLE.test(file.name) ? null : await file.text();
  if (text === null || text.includes("\0")) {
    const remedy = "Paste its column of texts here, or score the whole file by the command inferer predict.";
    fill(byId("note"), `${file.name} is ${text === null ? "a table" : "not a text file"}, not lines of texts. ${remedy}`);
    return;
  }
  closeTable();
  field.value = text.replace(/[\r\n]+$/, "");
  changed();
  fill(byId("note"), text.includes("\ufffd") ? `${file.name} is not UTF-8: unreadable bytes became \ufffd.` : "");
}

async function openTable(file) {
  fill(byId("note"), `Reading ${file.name} …`);
  try {
    const table = await readTable(file);
    const added = model.info ? [...predictedColumns().map(([name]) => name), "error"] : [];
    const both = table.names.find((name) => added.includes(name));
    if (both !== undefined) throw new TableError(`already has the column “${both}”; rename it`);
    opened = { name: file.name, column: 0, ...table };
    byId("field").hidden = true;
    byId("table").hidden = false;
    fill(byId("note"));
    const choose = (column) => {
      opened.column = column;
      changed();
    };
    showTable(file.name, table, choose, () => {
      closeTable();
      field.focus();
    });
  } catch (error) {
    if (!(error instanceof TableError)) throw error;
    fill(byId("note"), `${file.name} ${error.message}.`);
  }
}

function closeTable() {
  opened = null;
  byId("field").hidden = false;
  byId("table").hidden = true;
  changed();
}

function save() {
  if (sent) download(tableCsvOf(sent.names, rows), `scored ${sent.name.replace(/\.\w+$/, "")}.csv`);
  else download(csvOf(rows), `${model.info.model}.csv`);
}

export function start() {
  field.addEventListener("input", changed);
  byId("classify-all").addEventListener("click", begin);
  byId("stop").addEventListener("click", () => running?.abort());
  byId("continue").addEventListener("click", send);
  byId("download").addEventListener("click", save);
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = ""; // allows the same file again
  });
  changed();
}
