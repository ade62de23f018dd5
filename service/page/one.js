// One text: its answer while it is typed, and on request what each word contributes.

import { call } from "./api.js";
import { commandDetails } from "./curl.js";
import { announce, byId, el, fill } from "./dom.js";
import { explanationNodes } from "./explanation.js";
import { chosen } from "./options.js";
import { problem } from "./problem.js";
import { inWords, resultNodes } from "./result.js";

const PAUSE_MS = 250; // in typing, until the text is sent

const field = byId("text");
const answer = byId("answer");
let timer;
let asked = { classify: null, explain: null }; // what is on its way
let explained = null; // the label that the explanation on the page was asked for

const body = () => ({ text: field.value, ...chosen() });

/** Return the body of POST /explain, which takes fewer options. */
function explainBody(label) {
  const { truncation } = chosen();
  return { text: field.value, ...(label && { label }), ...(truncation && { truncation }) };
}

/** Keep the commands in step with the text, the options and the key. */
export const updateCommand = commandDetails("one-curl", () => [
  { name: "the command of this answer", path: "predict", body: body() },
  ...(explained === null ? [] : [{ name: "the command of this explanation", path: "explain", body: explainBody(explained) }]),
]);

/** Run `work` as the only one of its `kind`: an older one is stopped, and its answer never shown. */
async function alone(kind, work, show) {
  asked[kind]?.abort();
  const mine = new AbortController();
  asked[kind] = mine;
  let shown;
  try {
    shown = await work(mine.signal);
  } catch (error) {
    if (asked[kind] !== mine || error.name === "AbortError") return;
    shown = error;
  }
  if (asked[kind] !== mine) return;
  asked[kind] = null;
  show(shown);
}

function idle(sentence = "The labels and their scores will stand here.") {
  fill(answer, el("p", { class: "idle" }, sentence));
  answer.setAttribute("aria-busy", "false");
}

async function classify({ insistent }) {
  clearTimeout(timer);
  asked.classify?.abort();
  asked.classify = null;
  if (!field.value.trim()) {
    if (insistent) field.focus();
    idle(insistent ? "There is no text yet. Type one first." : undefined);
    return;
  }
  const options = chosen();
  answer.setAttribute("aria-busy", "true");
  await alone("classify", (signal) => call("predict", { body: body(), signal, insistent }), (shown) => {
    answer.setAttribute("aria-busy", "false");
    if (shown instanceof Error) {
      fill(answer, problem(shown, () => classify({ insistent: true })));
      return;
    }
    fill(answer, resultNodes(shown.data, options, shown));
    announce(inWords(shown.data, options));
  });
}

async function explain(label = "") {
  if (!field.value.trim()) {
    classify({ insistent: true });
    return;
  }
  const place = byId("explanation");
  const text = field.value;
  place.setAttribute("aria-busy", "true");
  if (!place.hasChildNodes()) fill(place, el("p", { class: "idle" }, "The model is run without each word …"));
  await alone("explain", (signal) => call("explain", { body: explainBody(label), signal, insistent: true }), (shown) => {
    place.setAttribute("aria-busy", "false");
    if (shown instanceof Error) {
      fill(place, problem(shown, () => explain(label)));
      return;
    }
    const again = document.activeElement?.id === "explained-label";
    fill(place, explanationNodes(text, shown.data, explain));
    if (again) byId("explained-label").focus();
    explained = label;
    updateCommand();
    const strongest = [...shown.data.parts].sort((a, b) => b.contribution - a.contribution)[0];
    announce(`Explained: ${strongest ? `most for ${shown.data.label} says ${strongest.text}` : "no word to leave out"}.`);
  });
}

/** Drop an explanation: it is of another text than the one that stands there now. */
function dropExplanation() {
  asked.explain?.abort();
  asked.explain = null;
  explained = null;
  fill(byId("explanation"));
}

/** Note that the text or an option has changed: ask once there is a pause. */
export function changed() {
  clearTimeout(timer);
  dropExplanation();
  updateCommand();
  if (!field.value.trim()) {
    asked.classify?.abort();
    asked.classify = null;
    idle();
    return;
  }
  timer = setTimeout(() => classify({ insistent: false }), PAUSE_MS);
}

export function start() {
  idle();
  field.addEventListener("input", changed);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    classify({ insistent: true });
  });
  byId("classify").addEventListener("click", () => classify({ insistent: true }));
  byId("explain").addEventListener("click", () => explain());
  if (field.value.trim()) changed(); // a browser that came back to the page has filled it in again
}
