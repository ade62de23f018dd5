// A CSV or TSV file (RFC 4180) as rows of cells, read as `inferer predict` reads it: every cell stays text.

import { counted, grouped } from "./dom.js";

const DELIMITERS = [",", ";", "\t", "|"];
const MAX_BYTES = 50_000_000; // an hour of requests; larger files are for the command
const HEAD = 65_536; // bytes that are enough to see the header
const MOST_LEFT_OVER = 2_000; // characters

/** A fault of the file, as a sentence. */
export class TableError extends Error {}

/** Return {names, rows}: the header's cells, and per row its line, its cells and its fault or null.
 *
 * Reads the file piece by piece. Throws TableError for a file that is not such a table.
 */
export async function readTable(file) {
  if (file.size > MAX_BYTES) {
    throw new TableError(`has ${grouped(file.size)} bytes, at most ${grouped(MAX_BYTES)} fit here; use inferer predict`);
  }
  const encoding = encodingOf(new Uint8Array(await file.slice(0, 2).arrayBuffer()));
  const head = new TextDecoder(encoding).decode(await file.slice(0, HEAD).arrayBuffer());
  const delimiter = /\.(tsv|tab)$/i.test(file.name) ? "\t" : bestDelimiter(head);
  const rows = [];
  const parser = new Parser(delimiter, (line, cells) => rows.push({ line, cells }));
  const decoder = new TextDecoder(encoding, { fatal: true });
  const reader = file.stream().getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      parser.feed(decoder.decode(piece.value, { stream: true }));
    }
    parser.feed(decoder.decode());
  } catch (error) {
    if (error instanceof TableError) throw error;
    throw new TableError(`cannot be read as ${encoding.toUpperCase()}; save it as UTF-8`);
  }
  parser.end();
  if (rows.length === 0 || rows[0].cells.every((cell) => !cell.trim())) throw new TableError("has no line with column names");
  const names = rows.shift().cells;
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) throw new TableError(`has the column “${twice}” twice; rename one`);
  for (const row of rows) {
    const { cells, line } = row;
    row.fault =
      cells.length === names.length
        ? null
        : `line ${line} has ${counted(cells.length, "cell")} where the header has ${grouped(names.length)}` +
          leftOver(cells.slice(names.length));
  }
  return { names, rows };
}

/** Return the end of a fault that tells the cells without a column, shortened as the command does. */
function leftOver(cells) {
  if (cells.length === 0) return "";
  const told = [...`[${cells.map((cell) => JSON.stringify(cell)).join(", ")}]`];
  return `; without a column: ${told.length <= MOST_LEFT_OVER ? told.join("") : `${told.slice(0, MOST_LEFT_OVER - 1).join("")}…`}`;
}

function encodingOf([first, second]) {
  if (first === 0xff && second === 0xfe) return "utf-16le";
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
}

/** Return the delimiter with which the first row has the most cells. */
function bestDelimiter(head) {
  const cellsWith = (delimiter) => {
    let count = 0;
    const parser = new Parser(delimiter, (_line, cells) => {
      count ||= cells.length;
    });
    try {
      parser.feed(head);
      parser.end();
    } catch (error) {
      if (!(error instanceof TableError)) throw error; // a header in quotes is broken quoting to other delimiters
    }
    return count;
  };
  const counts = DELIMITERS.map(cellsWith);
  return DELIMITERS[counts.indexOf(Math.max(...counts))];
}

class Parser {
  #cells = [];
  #cell = "";
  #state = "start"; // of a cell: start, bare, quoted, or closed behind its second quote
  #line = 1;
  #begin = 1; // the line of the row's first cell
  #return = false; // the last character was a carriage return; a line feed after it ends the same line

  constructor(delimiter, onRow) {
    this.delimiter = delimiter;
    this.onRow = onRow;
  }

  feed(text) {
    for (const character of text) this.#take(character);
  }

  /** Finish the last row, which may lack a line end. */
  end() {
    if (this.#state === "quoted") throw new TableError(`has a quote in line ${this.#begin} that is never closed`);
    if (this.#cells.length || this.#state !== "start") this.#endRow();
  }

  #take(character) {
    const afterReturn = this.#return && character === "\n";
    this.#return = character === "\r";
    const ends = character === "\n" || character === "\r";
    if (ends && !afterReturn) this.#line += 1;
    if (this.#state === "quoted") {
      if (character === '"') this.#state = "closed";
      else this.#cell += character;
      return;
    }
    if (ends) {
      if (!afterReturn && (this.#cells.length || this.#state !== "start")) this.#endRow();
      else if (!this.#cells.length && this.#state === "start") this.#begin = this.#line;
    } else if (character === this.delimiter) {
      this.#endCell();
    } else if (character === '"' && this.#state !== "bare") {
      if (this.#state === "closed") this.#cell += '"'; // two quotes in a quoted cell are one
      this.#state = "quoted";
    } else if (this.#state === "closed") {
      throw new TableError(`has a stray quote in line ${this.#line}`);
    } else {
      this.#cell += character;
      this.#state = "bare";
    }
  }

  #endCell() {
    this.#cells.push(this.#cell);
    this.#cell = "";
    this.#state = "start";
  }

  #endRow() {
    this.#endCell();
    this.onRow(this.#begin, this.#cells);
    this.#cells = [];
    this.#begin = this.#line;
  }
}
