// Many texts, one a line: sent in several requests, shown in a table, saved as CSV.

import { bodyOf, nextRequest, sendAll } from "./batch.js";
import { csvOf, download } from "./csv.js";
import { commandDetails } from "./curl.js";
import { announce, byId, counted, el, fill, grouped } from "./dom.js";
import { model } from "./model.js";
import { withAllScores } from "./options.js";
import { problem } from "./problem.js";
import { linesInWords, rowsTable, tally } from "./rows.js";

const field = byId("lines");
let rows = [];
let view = null;
let running = null; // the AbortController of what is being sent
let options = {}; // of the run whose rows are shown
let lastSaid = 0;

/** Return the texts of the field as rows; line numbers are those of the field. */
function readRows() {
  const lines = field.value.split(/\r\n|\n|\r/);
  return lines.map((text, index) => ({ number: index + 1, text })).filter(({ text }) => text.trim());
}

/** Keep the command in step with the lines, the options and the key. */
export const updateCommand = commandDetails("many-curl", () => {
  const all = readRows();
  const set = withAllScores();
  const first = model.info ? nextRequest(all, model.info.limits, set, model.info.limits.max_texts) : all;
  const note =
    first.length < all.length &&
    `This asks for the first ${grouped(first.length)} of ${counted(all.length, "text")}: as many as one request takes.`;
  return [{ name: "the command of these texts", path: "predict", body: bodyOf(first, set), note }];
});

/** Note that the lines, an option or what is known of the model has changed. */
export function changed() {
  const texts = readRows();
  const lines = field.value === "" ? 0 : field.value.split(/\r\n|\n|\r/).length;
  const help = "Paste a column of a spreadsheet, or open a text file. Empty lines are skipped.";
  byId("lines-count").textContent = lines ? linesInWords(texts.length, lines - texts.length) : help;
  updateCommand();
}

function begin() {
  if (running) return;
  rows = readRows();
  fill(byId("many-problem"));
  if (rows.length === 0) {
    fill(byId("note"), "There is no text yet. Paste some lines first.");
    field.focus();
    return;
  }
  options = withAllScores();
  view = rowsTable(rows);
  fill(byId("rows"), el("ul", { class: "tally", id: "tally" }), view.node);
  send();
}

async function send() {
  if (!model.info) {
    fill(byId("many-problem"), problem(Object.assign(new Error("The model is not known yet."), { next: "Wait, and try again." }), send));
    return;
  }
  running = new AbortController();
  fill(byId("many-problem"));
  fill(byId("note"));
  show();
  announce(`Asking for ${counted(rows.length, "text")}.`);
  let ended;
  try {
    const { signal } = running;
    const waiting = (sentence) => fill(byId("note"), sentence);
    await sendAll(rows, { limits: model.info.limits, options, signal, answered: progress, waiting });
    ended = "Done";
  } catch (error) {
    ended = "Stopped";
    if (error.name !== "AbortError") fill(byId("many-problem"), problem(error, send));
  }
  running = null;
  progress();
  show();
  const left = rows.length - done();
  const sentence = `${ended}: ${grouped(done())} of ${counted(rows.length, "text")}${left ? `, ${grouped(left)} left` : ""}.`;
  fill(byId("note"), sentence, formulaNote());
  announce(sentence);
}

const done = () => rows.filter((row) => row.prediction || row.problem).length;

function progress() {
  const count = done();
  byId("bar").max = rows.length;
  byId("bar").value = count;
  byId("count").textContent = `${grouped(count)} of ${grouped(rows.length)}`;
  view.draw();
  fill(byId("tally"), tally(rows));
  if (running && performance.now() - lastSaid > 5000) {
    lastSaid = performance.now();
    announce(byId("count").textContent);
  }
}

/** Say what was done to texts that a spreadsheet would run. */
function formulaNote() {
  const guarded = rows.filter(({ text }) => /^[=+\-@\t\r]/.test(text)).length;
  if (!guarded) return null;
  return ` In the CSV file an apostrophe stands before ${counted(guarded, "text")}, which a spreadsheet would take for a formula.`;
}

/** Show the buttons that fit; the focus never goes down with one. */
function show() {
  const { activeElement } = document;
  const left = rows.length - done();
  byId("progress").hidden = rows.length === 0;
  byId("stop").hidden = !running;
  byId("go-on").hidden = Boolean(running) || left === 0 || byId("many-problem").hasChildNodes();
  byId("download").hidden = Boolean(running) || done() === 0;
  byId("classify-all").disabled = Boolean(running);
  if (activeElement?.hidden || activeElement?.disabled) byId(running ? "stop" : "classify-all").focus();
}

async function open(file) {
  const text = await file.text();
  field.value = text.replace(/[\r\n]+$/, "");
  changed();
  fill(byId("note"), text.includes("\ufffd") ? `${file.name} is not UTF-8: what could not be read became \ufffd.` : "");
}

export function start() {
  field.addEventListener("input", changed);
  byId("classify-all").addEventListener("click", begin);
  byId("stop").addEventListener("click", () => running?.abort());
  byId("go-on").addEventListener("click", send);
  byId("download").addEventListener("click", () => download(csvOf(rows), `${model.info.model}.csv`));
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) open(file);
    event.target.value = ""; // so that the same file can be opened again
  });
  changed();
}
