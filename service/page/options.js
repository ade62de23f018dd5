// The options of a request, shared by the views of one and many texts. The block moves into the visible view.

import { byId, el, fill } from "./dom.js";
import { MULTI, model } from "./model.js";

// In place of those in the page, for a model that reads pairs.
const OF_PAIRS = {
  longest_first: "cut the end of the longer text first",
  only_first: "cut the end of the first text",
  only_second: "cut the end of the second text",
  tail: "cut the start of the longer text first",
  head_tail: "keep the first text, cut the middle of the second",
  windows: "keep the first text, use the whole second, in windows",
  error: "reject the pair",
};
const FIELDS = ["truncation", "threshold", "top-k"];

/** Return the options that the user has set, as fields of a request body. */
export function selectedOptions() {
  const number = (id) => (byId(id).value.trim() === "" ? undefined : Number(byId(id).value));
  const fields = {
    top_k: number("top-k"),
    truncation: byId("truncation").value || undefined,
    threshold: model.info?.problem_type === MULTI ? number("threshold") : undefined,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Return the options without top_k, for a reply with all scores. */
export function optionsWithAllScores() {
  const { top_k: _, ...others } = selectedOptions();
  return others;
}

/** Call `changed` when an option changes. */
export function onOptionsChange(changed) {
  for (const id of FIELDS) {
    byId(id).addEventListener("input", () => {
      summarize();
      changed();
    });
  }
}

function summarize() {
  const set = Object.entries(selectedOptions()).map(([option, value]) => `${option} ${value}`);
  byId("options-set").textContent = set.length ? `: ${set.join(", ")}` : "";
}

/** Show the defaults of the model in the fields. */
export function showDefaults() {
  const { info } = model;
  if (info.text_pair) {
    const options = Object.entries(OF_PAIRS).map(([value, text]) => el("option", { value }, `${value}: ${text}`));
    fill(byId("truncation"), el("option", { value: "" }, "default"), options);
  }
  byId("truncation").options[0].textContent = `default (${info.truncation})`;
  byId("threshold-field").hidden = info.problem_type !== MULTI;
  byId("top-k").max = info.labels.length;
}

/** Move the block into the view `panel`, if it has a slot for it. */
export function moveOptions(panel) {
  panel.querySelector(".slot")?.append(byId("options"));
}
