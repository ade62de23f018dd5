// One prediction: the labels, a bar per score, the tokens used, the time taken.

import { counted, el, level, milliseconds, percent } from "./dom.js";
import { MULTI, isNumber, model, ranked, scoreInWords, thresholdOf, tokenUsage } from "./model.js";

const isMulti = () => model.info?.problem_type === MULTI;

/** Return the labels in a sentence, for the page and for screen readers. */
export function verdict(prediction, options) {
  const { label, score, labels } = prediction;
  if (prediction.abstained) {
    const least = thresholdOf(label, options);
    return `No label: the best score, ${percent(score)} for ${label}, is below the minimum${least === null ? "" : ` of ${level(least)}`}.`;
  }
  if (!isMulti()) return `${label}, ${scoreInWords(score)}`;
  if (labels.length === 0) return `No label reaches its threshold. The nearest is ${label}, ${percent(score)}.`;
  return `${counted(labels.length, "label")}: ${labels.join(", ")}`;
}

/** Return the nodes for `prediction`; options: of its request; reply: with its times. */
export function predictionNodes(prediction, options, reply) {
  const named = prediction.labels.length > 0;
  const all = model.info?.labels.length ?? 0;
  const scores = ranked(prediction.scores);
  const { thresholds } = model.info ?? {};
  return [
    el("p", { class: named ? "verdict" : "verdict none" }, verdict(prediction, options)),
    !isNumber() &&
      el(
        "ol",
        { class: "bars", "aria-label": "Scores, best first" },
        scores.map(([label, score]) => barOf(label, score, prediction, options)),
      ),
    scores.length < all && el("p", { class: "small" }, `Only the best ${scores.length} of ${all} labels.`),
    isMulti() && thresholds && el("p", { class: "small" }, "The line on a bar is the threshold of the label."),
    el("p", { class: prediction.truncated ? "usage cut" : "usage" }, tokenUsage(prediction, options)),
    el("p", { class: "small", id: "took" }, timesInWords(reply)),
  ];
}

function barOf(label, score, prediction, options) {
  const chosen = prediction.labels.includes(label);
  const least = thresholdOf(label, options);
  const fill = el("span", { class: "fill" });
  fill.style.width = `${100 * score}%`; // the Content-Security-Policy allows the object model, not attributes
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
  const total = `${milliseconds(elapsedMs)} in total, measured in this browser.`;
  const { queue, tokenize, infer } = timings;
  if (infer === undefined) return total;
  const of = (name, ms) => `${name} ${milliseconds(ms)}`;
  return `${total} On the server: ${of("queue", queue)}, ${of("tokenize", tokenize)}, ${of("infer", infer)}.`;
}
