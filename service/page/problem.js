// An error on the page: a sentence, the next step, a retry button, the request id.

import { el } from "./dom.js";

/** Return the element for `error`; its button calls `retry`. Faults of this page also go to the console. */
export function problem(error, retry) {
  if (error.next === undefined) console.error(error);
  const sentence = error.next === undefined ? `This page has a fault: ${error.message}` : error.message;
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("p", {}, el("strong", {}, sentence), " ", error.next),
    retry && el("button", { type: "button", onclick: retry }, "Try again"),
    error.requestId && el("p", { class: "small" }, "Request id ", el("code", {}, error.requestId)),
  );
}
