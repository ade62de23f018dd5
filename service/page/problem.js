// An error as it stands on the page: what happened, what to do next, a button, the request id in small.

import { el } from "./dom.js";

/** Return the element for `error`; `again` is called by its button. Faults of this page itself go on to the console. */
export function problem(error, again) {
  if (error.next === undefined) console.error(error);
  const sentence = error.next === undefined ? `This page has a fault: ${error.message}` : error.message;
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("p", {}, el("strong", {}, sentence), " ", error.next),
    again && el("button", { type: "button", onclick: again }, "Try again"),
    error.requestId && el("p", { class: "small" }, "Request id ", el("code", {}, error.requestId)),
  );
}
