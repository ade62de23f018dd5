// The view of one text: a prediction while the user types, and an explanation on request.

import { call } from "./api.js";
import { commandDetails } from "./curl.js";
import { announce, byId, el, fill } from "./dom.js";
import { explanationNodes } from "./explanation.js";
import { model } from "./model.js";
import { selectedOptions } from "./options.js";
import { predictionNodes, verdict } from "./prediction.js";
import { problem } from "./problem.js";

const PAUSE_MS = 250; // in typing, before the text is sent

const field = byId("text");
const second = byId("text-pair"); // of a pair, where the model reads pairs
const output = byId("prediction");
let timer;
const pending = { classify: null, explain: null }; // an AbortController per request in flight
let explained = null; // the label in the request of the visible explanation; "": the best one

const texts = () => ({ text: field.value, ...(model.info?.text_pair && { text_pair: second.value }) });
const isComplete = () => Object.values(texts()).every((text) => text.trim());
const predictBody = () => ({ ...texts(), ...selectedOptions() });

/** Return the body of POST /explain, which has fewer options. */
function explainBody(label) {
  const { truncation } = selectedOptions();
  return { ...texts(), ...(label && { label }), ...(truncation && { truncation }) };
}

/** Update the curl commands after a change of the text, the options or the key. */
export const updateCommand = commandDetails("one-curl", () => [
  { name: "the command of this prediction", path: "predict", body: predictBody() },
  ...(explained === null ? [] : [{ name: "the command of this explanation", path: "explain", body: explainBody(explained) }]),
]);

function cancel(kind) {
  pending[kind]?.abort();
  pending[kind] = null;
}

/** Call `send(signal)`, then `show(reply or error)`. A newer request of the same kind cancels this one. */
async function sendLatest(kind, send, show) {
  cancel(kind);
  const controller = new AbortController();
  pending[kind] = controller;
  let result;
  try {
    result = await send(controller.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    result = error;
  }
  if (pending[kind] !== controller) return;
  pending[kind] = null;
  show(result);
}

function clear(sentence = "Type a text to see its labels.") {
  fill(output, el("p", { class: "idle" }, sentence));
  output.setAttribute("aria-busy", "false");
}

/** Classify the text. explicit: by a button or a key, not by typing. */
async function classify({ explicit }) {
  clearTimeout(timer);
  cancel("classify");
  if (!isComplete()) {
    if (explicit) (field.value.trim() ? second : field).focus();
    clear(explicit ? (field.value.trim() ? "The second text is missing." : "No text yet. Type one first.") : undefined);
    return;
  }
  const options = selectedOptions();
  output.setAttribute("aria-busy", "true");
  await sendLatest("classify", (signal) => call("predict", { body: predictBody(), signal, explicit }), (result) => {
    output.setAttribute("aria-busy", "false");
    if (result instanceof Error) {
      fill(output, problem(result, () => classify({ explicit: true })));
      return;
    }
    fill(output, predictionNodes(result.data, options, result));
    announce(verdict(result.data, options));
  });
}

async function explain(label = "") {
  if (!isComplete()) {
    classify({ explicit: true });
    return;
  }
  const place = byId("explanation");
  const sent = texts();
  place.setAttribute("aria-busy", "true");
  if (!place.hasChildNodes()) fill(place, el("p", { class: "idle" }, "The model runs without each word …"));
  await sendLatest("explain", (signal) => call("explain", { body: explainBody(label), signal, explicit: true }), (result) => {
    place.setAttribute("aria-busy", "false");
    if (result instanceof Error) {
      fill(place, problem(result, () => explain(label)));
      return;
    }
    const hadFocus = document.activeElement?.id === "explained-label";
    fill(place, explanationNodes(sent, result.data, explain));
    if (hadFocus) byId("explained-label").focus();
    explained = label;
    updateCommand();
    const strongest = [...result.data.parts].sort((a, b) => b.contribution - a.contribution)[0];
    announce(strongest ? `Explained: the strongest word for ${result.data.label} is ${strongest.text}.` : "No word to leave out.");
  });
}

/** Note a change of the text or an option: classify after a pause. The old explanation no longer applies. */
export function changed() {
  clearTimeout(timer);
  cancel("explain");
  explained = null;
  fill(byId("explanation"));
  updateCommand();
  if (!isComplete()) {
    cancel("classify");
    clear();
    return;
  }
  timer = setTimeout(() => classify({ explicit: false }), PAUSE_MS);
}

export function start() {
  clear();
  for (const one of [field, second]) {
    one.addEventListener("input", changed);
    one.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      classify({ explicit: true });
    });
  }
  byId("classify").addEventListener("click", () => classify({ explicit: true }));
  byId("explain").addEventListener("click", () => explain());
  if (field.value.trim()) changed(); // a browser may restore the text
}
