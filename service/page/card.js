// The model card, from /info: facts of the model, measured figures, limits of this service.

import { counted, el, grouped, level, table } from "./dom.js";
import { guardTable, scoreTable } from "./figures.js";
import { MULTI, REGRESSION } from "./model.js";

const TRUNCATIONS = {
  head: "only the beginning is used",
  tail: "only the end is used",
  head_tail: "the beginning and the end are used",
  windows: "the whole text is used, in windows",
  error: "rejected",
};

/** Return the nodes of the whole card. */
export function cardNodes(info) {
  return [overview, labelList, calibration, abstention, precision, goldenCheck, service].map((part) => part(info));
}

const section = (id, title, ...children) => el("section", { class: "card", id }, el("h3", {}, title), children);

const facts = (pairs) =>
  el("dl", {}, pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const small = (...children) => el("p", { class: "small" }, ...children);

function overview(info) {
  const multi = info.problem_type === MULTI;
  const one = info.problem_type === REGRESSION ? "a number" : "one label (single-label)";
  const versions = Object.entries(info.versions.export ?? {}).map(([name, version]) => `${name} ${version}`);
  return section(
    "card-overview",
    "Overview",
    facts([
      ["Name", info.model],
      ["Predicts", multi ? "any number of labels (multi-label)" : one],
      info.text_pair && ["Reads", "pairs of texts"],
      ["Input length", `${grouped(info.max_length)} tokens, including special tokens`],
      ["Longer texts", `${info.truncation}: ${TRUNCATIONS[info.truncation] ?? ""}`],
      info.truncation === "windows" && [
        "Windows",
        `overlap by ${counted(info.windows.overlap, "token")}; the ${info.windows.pooling === "max" ? "highest" : "mean"} score counts`,
      ],
      ["Exported", info.created ? `${info.created.slice(0, 16).replace("T", " at ")} UTC` : "date unknown"],
      versions.length > 0 && ["Exported with", versions.join(", ")],
    ]),
  );
}

function labelList({ labels, thresholds, calibration: { report } }) {
  const title = counted(labels.length, "label");
  if (thresholds === null) {
    return section("card-labels", title, el("ul", { class: "chips" }, labels.map((label) => el("li", {}, label))));
  }
  const fitted = report?.labels ?? null;
  const rows = labels.map((label) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, label),
      el("td", { class: "number" }, level(thresholds[label])),
      fitted && el("td", { class: "number" }, grouped(fitted[label].fitted)),
      fitted && el("td", { class: "number" }, grouped(fitted[label].reported)),
    ),
  );
  const numbers = ["Threshold", ...(fitted ? ["Texts in fitting rows", "Texts in reported rows"] : [])];
  const headings = ["Label", ...numbers.map((text) => ({ text, number: true }))];
  return section(
    "card-labels",
    title,
    el("p", {}, "A text gets each label with a score at or above its threshold."),
    table("Labels and thresholds", headings, rows),
  );
}

function calibration({ calibration: { report, temperature, platt }, thresholds, problem_type: kind, activation }) {
  const title = "Meaning of a score";
  if (kind === REGRESSION) {
    const meaning = activation === "none" ? "The score is the number that the model learned." : "The score is the sigmoid of the model's number: higher is more relevant.";
    return section("card-calibration", title, el("p", {}, meaning));
  }
  if (!report) {
    const plain = "Scores are not calibrated: a score of 90 % does not mean that the label is right nine times in ten.";
    const known = "Scores are calibrated; the model has no figures about it.";
    return section("card-calibration", title, el("p", {}, temperature !== 1 || platt ? known : plain));
  }
  const meaning =
    thresholds === null
      ? "of the texts with a best score near 90 %, about nine in ten get the right label"
      : "of the texts with a score near 90 % for a label, about nine in ten have that label";
  const method = report.method === "temperature" ? `Temperature ${report.temperature.toPrecision(4)}` : "A scale and a bias per label";
  const others = report.held_back
    ? `the other ${counted(report.reported_rows, "row")}`
    : `${counted(report.reported_rows, "row")} of ${report.reported_file}`;
  return section(
    "card-calibration",
    title,
    el("p", {}, `Scores are calibrated: ${meaning}. This holds for texts like those of the fit.`),
    el("p", {}, `${method}, fitted on ${counted(report.fitted_rows, "row")} of ${report.file}; figures on ${others}.`),
    scoreTable("Calibration, before and after", report.figures, "calibration"),
    small(`The expected calibration error (ECE) is the mean gap between score and share of right labels; 0 is best. ${report.intervals}.`),
    (report.notes ?? []).map((note) => small(note)),
  );
}

function abstention({ thresholds, abstain_threshold: below, abstention: report, problem_type: kind }) {
  if (thresholds !== null || kind === REGRESSION) return null;
  const title = "Abstention";
  if (below === null) return section("card-abstention", title, el("p", {}, "None: the best label always counts."));
  return section(
    "card-abstention",
    title,
    el("p", {}, `A text gets no label if its best score is below ${level(below)}.`),
    report && scoreTable("Effect of abstention", report.figures, "abstention"),
    report && small(`Figures on ${counted(report.reported_rows, "row")} of ${report.reported_file}.`),
  );
}

function precision({ quantization, guard, parity, problem_type: kind }) {
  const { scheme, running, kept_fp32: kept, exact_because: exact } = quantization;
  return section(
    "card-precision",
    running === "fp32" ? "Precision: fp32" : "Precision: int8 compared with fp32",
    facts([
      ["Runs as", running === scheme ? running : `${running}; the bundle is ${scheme}`],
      kept?.length > 0 && ["Layers kept in fp32", kept.join(", ")],
      exact && ["Exact mode, slower", exact],
      parity && ["Compared at export", `${counted(parity.n, "sentence")} with PyTorch, fp32 and int8`],
    ]),
    guardNodes(guard, kind === MULTI),
  );
}

function guardNodes(guard, multi) {
  if (!guard) return el("p", {}, "This export did not compare int8 with fp32 on texts of the owner.");
  const { max_accuracy_drop_points: drop, min_agreement_percent: agreement } = guard.limits;
  const limits = [
    drop !== null && `accuracy at most ${drop} points lower`,
    agreement !== null && `same label for at least ${agreement} %`,
  ].filter(Boolean);
  return [
    !guard.in_bundle && el("p", {}, el("strong", {}, "int8 missed the limits, so this model runs as fp32."), " Figures of int8:"),
    el("p", {}, `Measured on ${counted(guard.evaluated, "text")} of ${guard.file}${limits.length ? `; limits: ${limits.join(", ")}` : ""}.`),
    guardTable("int8 compared with fp32", guard.figures, { multi }),
    small(`${guard.intervals}.`),
  ];
}

function goldenCheck({ golden_check: check }) {
  const texts = counted(check.texts, "text");
  const sentences = {
    passed: `Passed: the ${texts} stored with the model give the expected results on this machine`,
    failed: `Failed: ${check.differing} of ${texts} stored with the model give other results on this machine, ${check.other_label} of them another label`,
    off: "Off: the texts stored with the model were not run on this machine",
  };
  const largest = check.largest_difference === null ? "" : `; scores differ by at most ${check.largest_difference.toFixed(4)}`;
  return section("card-golden", "Golden check at start-up", el("p", {}, `${sentences[check.outcome] ?? check.outcome}${largest}.`));
}

function service({ limits, versions, threads, batching }) {
  return section(
    "card-service",
    "This service",
    facts([
      ["Texts per request", `at most ${grouped(limits.max_texts)}`],
      ["Characters per text", `at most ${grouped(limits.max_text_chars)}`],
      ["Tokens per request", `at most ${grouped(limits.max_tokens_per_request)}`],
      ["Bytes per request", `at most ${grouped(limits.max_body_bytes)}`],
      ["Requests in flight", `at most ${grouped(limits.max_in_flight)} per process`],
      ["Deadline", `${grouped(limits.deadline_ms)} ms`],
      ["Processes", `${threads.workers}, with ${counted(threads.intra_op, "thread")} for the model`],
      ["Requests share runs", batching.shared ? "yes" : `no: ${batching.alone_because}`],
      ["Versions", `inferer ${versions.inferer}, onnxruntime ${versions.onnxruntime}`],
    ]),
  );
}
