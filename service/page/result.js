// One prediction: what was chosen, every score as a bar, what was read of the text, how long it took.

import { counted, el, level, milliseconds, percent } from "./dom.js";
import { MULTI, model, ranked, readInWords, thresholdOf } from "./model.js";

const isMulti = () => model.info?.problem_type === MULTI;

/** Return the answer in a sentence, for the eye and for a screen reader. */
export function inWords(prediction, options) {
  const { label, score, labels } = prediction;
  if (prediction.abstained) {
    const least = thresholdOf(label, options);
    const bound = least === null ? "what is asked for" : `${level(least)}, from which this model names one`;
    return `No label is named: the best score, ${percent(score)} for ${label}, is below ${bound}.`;
  }
  if (!isMulti()) return `${label}, ${percent(score)}`;
  if (labels.length === 0) return `No label reaches its threshold. The nearest is ${label}, ${percent(score)}.`;
  return `${counted(labels.length, "label")}: ${labels.join(", ")}`;
}

/** Return the nodes that show `prediction`, asked for with `options` and answered by `reply`. */
export function resultNodes(prediction, options, reply) {
  const named = prediction.labels.length > 0;
  const all = model.info?.labels.length ?? 0;
  const shown = ranked(prediction.scores);
  const { thresholds } = model.info ?? {};
  return [
    el("p", { class: named ? "verdict" : "verdict none" }, inWords(prediction, options)),
    el(
      "ol",
      { class: "bars", "aria-label": "Scores, best first" },
      shown.map(([label, score]) => barOf(label, score, prediction, options)),
    ),
    shown.length < all && el("p", { class: "small" }, `The best ${shown.length} of ${all} labels are shown.`),
    isMulti() && thresholds && el("p", { class: "small" }, "The line on a bar is the threshold from which a label is named."),
    el("p", { class: prediction.truncated ? "read cut" : "read" }, readInWords(prediction, options)),
    el("p", { class: "small", id: "took" }, timesInWords(reply)),
  ];
}

function barOf(label, score, prediction, options) {
  const chosen = prediction.labels.includes(label);
  const least = thresholdOf(label, options);
  const fill = el("span", { class: "fill" });
  fill.style.width = `${100 * score}%`; // through the object model, which the Content-Security-Policy allows
  const mark = least === null ? null : el("span", { class: "threshold" });
  if (mark) mark.style.left = `${100 * Math.min(Math.max(least, 0), 1)}%`;
  return el(
    "li",
    { class: chosen ? "chosen" : null, "data-label": label, "data-score": String(score) },
    el("span", { class: "mark", "aria-hidden": "true" }, chosen ? "✓" : ""),
    el("span", { class: "label" }, label, chosen && el("span", { class: "hidden" }, " (chosen)")),
    el("span", { class: "bar", "aria-hidden": "true" }, fill, mark),
    el("span", { class: "score" }, percent(score)),
    isMulti() && least !== null && el("span", { class: "least" }, `from ${level(least)}`),
  );
}

function timesInWords({ elapsedMs, timings }) {
  const whole = `Answered in ${milliseconds(elapsedMs)}, measured in this browser.`;
  const { queue, tokenize, infer } = timings;
  if (infer === undefined) return whole;
  const of = (name, ms) => `${name} ${milliseconds(ms)}`;
  return `${whole} At the server: ${of("queue", queue)}, ${of("tokenize", tokenize)}, ${of("infer", infer)}.`;
}
