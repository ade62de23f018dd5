// The view of a ranking, for models that give a pair of texts one number: documents, one per line, for a query.

import { call } from "./api.js";
import { cell, download } from "./csv.js";
import { commandDetails } from "./curl.js";
import { announce, byId, counted, el, fill } from "./dom.js";
import { model, scoreInWords, shareOf } from "./model.js";
import { optionsWithAllScores } from "./options.js";
import { problem } from "./problem.js";

let ranking = []; // {place, index, score, text} of the last reply, best first

const documents = () =>
  byId("documents").value
    .split(/\r\n|\n|\r/)
    .filter((line) => line.trim());

/** Return the body of POST /rerank. */
function body() {
  const { truncation } = optionsWithAllScores();
  return { query: byId("query").value, documents: documents(), ...(truncation && { truncation }) };
}

/** Update the curl command after a change of the texts or the key. */
export const updateCommand = commandDetails("rank-curl", () => [{ name: "the command of this ranking", path: "rerank", body: body() }]);

async function rank() {
  const sent = body();
  fill(byId("rank-problem"));
  if (!sent.query.trim() || sent.documents.length === 0) {
    fill(byId("ranking"), el("p", { class: "idle" }, "Give a query, and documents, one per line."));
    byId(sent.query.trim() ? "documents" : "query").focus();
    return;
  }
  byId("ranking").setAttribute("aria-busy", "true");
  try {
    const { data } = await call("rerank", { body: sent, explicit: true });
    ranking = data.results.map(({ index, relevance_score: score }, place) => ({ place: place + 1, index, score, text: sent.documents[index] }));
    show();
    announce(`${counted(ranking.length, "document")} ranked. Best: ${ranking[0].text}`);
  } catch (error) {
    fill(byId("rank-problem"), problem(error, rank));
  }
  byId("ranking").setAttribute("aria-busy", "false");
}

function show() {
  const scores = ranking.map(({ score }) => score);
  fill(
    byId("ranking"),
    el(
      "ol",
      { class: "bars ranking", "aria-label": "Documents, best first" },
      ranking.map(({ place, index, score, text }) => {
        const bar = el("span", { class: "fill" });
        bar.style.width = `${100 * shareOf(score, scores)}%`;
        return el(
          "li",
          { "data-index": String(index), "data-score": String(score) },
          el("span", { class: "mark", "aria-hidden": "true" }, String(place)),
          el("span", { class: "label" }, text),
          el("span", { class: "bar", "aria-hidden": "true" }, bar),
          el("span", { class: "score" }, scoreInWords(score)),
        );
      }),
    ),
  );
  byId("rank-download").hidden = false;
}

function save() {
  const head = ["rank", "line", "score", "document"];
  const lines = ranking.map(({ place, index, score, text }) => [place, index + 1, score, text]);
  download(`\ufeff${[head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`, `ranking of ${model.info.model}.csv`);
}

export function start() {
  for (const id of ["query", "documents"]) byId(id).addEventListener("input", updateCommand);
  byId("rank-all").addEventListener("click", rank);
  byId("rank-download").addEventListener("click", save);
}
