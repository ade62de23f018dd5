// The options of a call, shared by one text and many; the block moves into whichever of the two is shown.

import { byId } from "./dom.js";
import { MULTI, model } from "./model.js";

const FIELDS = ["truncation", "threshold", "top-k"];

/** Return the options that are set, named and ordered as in the body of a request. */
export function chosen() {
  const number = (id) => (byId(id).value.trim() === "" ? undefined : Number(byId(id).value));
  const given = {
    top_k: number("top-k"),
    truncation: byId("truncation").value || undefined,
    threshold: model.info?.problem_type === MULTI ? number("threshold") : undefined,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Return the options that leave every score in the answer. */
export function withAllScores() {
  const { top_k: _, ...others } = chosen();
  return others;
}

/** Call `changed` whenever an option is. */
export function onOptions(changed) {
  for (const id of FIELDS) {
    byId(id).addEventListener("input", () => {
      name();
      changed();
    });
  }
}

function name() {
  const set = Object.entries(chosen()).map(([option, value]) => `${option} ${value}`);
  byId("options-set").textContent = set.length ? `: ${set.join(", ")}` : "";
}

/** Name the model's own choices in the fields. */
export function describeOptions() {
  const { info } = model;
  byId("truncation").options[0].textContent = `default (${info.truncation})`;
  byId("threshold-field").hidden = info.problem_type !== MULTI;
  byId("top-k").max = info.labels.length;
}

/** Put the block into the part `panel`, where it has a place for it. */
export function moveOptions(panel) {
  panel.querySelector(".slot")?.append(byId("options"));
}
