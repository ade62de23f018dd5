// Measured figures as tables: name, value, 95 % interval, n; with the wording of the export's reports.

import { el, grouped, table } from "./dom.js";

const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
const FORMATS = {
  percent: (value) => `${(100 * value).toFixed(2)} %`,
  points: (value) => `${signed(100 * value, 2)} pt`,
  score: (value) => value.toFixed(4),
  change: (value) => signed(value, 4),
  nats: (value) => value.toFixed(5),
};

const GUARD = [
  ["agreement", "Same label as fp32", "percent"],
  ["accuracy_fp32", "Accuracy of fp32", "percent"],
  ["accuracy_int8", "Accuracy of int8", "percent"],
  ["accuracy_drop", "Accuracy, fp32 less int8", "points"],
  ["macro_f1_fp32", "Macro-F1 of fp32", "score"],
  ["macro_f1_int8", "Macro-F1 of int8", "score"],
  ["macro_f1_drop", "Macro-F1, fp32 less int8", "change"],
  ["mean_change", "Change of a score, mean", "score"],
  ["largest_change", "Change of a score, largest", "score"],
  ["spearman", "Spearman with fp32", "score"],
  ["kendall", "Kendall with fp32", "score"],
  ["spearman_fp32", "Spearman with the owner's numbers, fp32", "score"],
  ["spearman_int8", "Spearman with the owner's numbers, int8", "score"],
  ["spearman_drop", "The same, fp32 less int8", "change"],
  ["kl", "KL divergence, nats, mean", "nats"],
];

const SCORES = [
  ["ece_before", "ECE before", "score"],
  ["ece_after", "ECE after", "score"],
  ["ece_change", "ECE, after less before", "change"],
  ["ece_by_chance", "ECE if scores were exact", "score"],
  ["brier_before", "Brier score before", "score"],
  ["brier_after", "Brier score after", "score"],
  ["brier_change", "Brier, after less before", "change"],
  ["nll_before", "Log loss before, nats", "score"],
  ["nll_after", "Log loss after, nats", "score"],
  ["nll_change", "Log loss, after less before", "change"],
  ["accuracy_before", "Accuracy before", "percent"],
  ["accuracy_after", "Accuracy after", "percent"],
  ["macro_f1_before", "Macro-F1 before", "score"],
  ["macro_f1_calibrated", "Macro-F1 calibrated", "score"],
  ["macro_f1_tuned", "Macro-F1 calibrated, tuned", "score"],
  ["macro_f1_gain", "Macro-F1, gain by tuning", "change"],
  ["micro_f1_before", "Micro-F1 before", "score"],
  ["micro_f1_calibrated", "Micro-F1 calibrated", "score"],
  ["micro_f1_tuned", "Micro-F1 calibrated, tuned", "score"],
  ["micro_f1_gain", "Micro-F1, gain by tuning", "change"],
  ["answered", "Texts with a label", "percent"],
  ["accuracy_answered", "Accuracy on these texts", "percent"],
  ["accuracy_all", "Accuracy without abstention", "percent"],
];

function figureTable(name, figures, rows, id) {
  const shown = rows.filter(([key]) => figures[key]);
  return table(
    name,
    ["Figure", { text: "Value", number: true }, "95 % interval", { text: "n", number: true }],
    shown.map(([key, caption, kind]) => {
      const { value, low, high, n } = figures[key];
      const show = FORMATS[kind];
      return el(
        "tr",
        { "data-figure": key },
        el("th", { scope: "row" }, caption),
        el("td", { class: "number" }, show(value)),
        el("td", {}, low === null ? "–" : `${show(low).replace(/ (%|pt)$/, "")} to ${show(high)}`),
        el("td", { class: "number" }, grouped(n)),
      );
    }),
    { id },
  );
}

export function guardTable(name, figures, { multi }) {
  const rows = GUARD.map(([key, caption, kind]) => [key, multi && key === "agreement" ? "Same set of labels as fp32" : caption, kind]);
  return figureTable(name, figures, rows, "guard");
}

export const scoreTable = (name, figures, id) => figureTable(name, figures, SCORES, id);
