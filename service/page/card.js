// The model's card, from /info: what it is, what was measured of it, and within which limits it answers here.

import { counted, el, grouped, level, table } from "./dom.js";
import { guardTable, scoreTable } from "./figures.js";
import { MULTI } from "./model.js";

const TRUNCATIONS = {
  head: "its beginning is read, the rest is not",
  tail: "its end is read, the rest is not",
  head_tail: "its beginning and its end are read, the middle is not",
  windows: "all of it is read, in parts",
  error: "it is refused",
};

/** Return the nodes of the whole card. */
export function cardNodes(info) {
  return [about(info), labelsPart(info), calibrationPart(info), abstentionPart(info), int8Part(info), goldenPart(info), herePart(info)];
}

const section = (id, title, ...children) => el("section", { class: "card", id }, el("h3", {}, title), children);

const facts = (pairs) =>
  el("dl", {}, pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

function about(info) {
  const multi = info.problem_type === MULTI;
  const versions = Object.entries(info.versions.export ?? {}).map(([name, version]) => `${name} ${version}`);
  return section(
    "card-about",
    "What it is",
    facts([
      ["Name", info.model],
      ["Answers with", multi ? "any number of its labels (multi-label)" : "one of its labels (single-label)"],
      ["Reads", `${grouped(info.max_length)} tokens, special ones included`],
      ["Of a longer text", `${info.truncation}: ${TRUNCATIONS[info.truncation] ?? ""}`],
      info.truncation === "windows" && [
        "Parts",
        `share ${counted(info.windows.overlap, "token")}; their ${info.windows.pooling === "max" ? "highest" : "mean"} scores count`,
      ],
      ["Exported", info.created ? `${info.created.slice(0, 16).replace("T", " at ")} UTC` : "it is not said when"],
      versions.length > 0 && ["Exported with", versions.join(", ")],
    ]),
  );
}

function labelsPart({ labels, thresholds, calibration }) {
  const title = counted(labels.length, "label");
  if (thresholds === null) {
    return section("card-labels", title, el("ul", { class: "chips" }, labels.map((label) => el("li", {}, label))));
  }
  const fitted = calibration.report?.labels ?? null;
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
  const numbers = ["Threshold", ...(fitted ? ["Fitted texts with it", "Reported"] : [])];
  const headings = ["Label", ...numbers.map((text) => ({ text, number: true }))];
  return section(
    "card-labels",
    title,
    el("p", {}, "A text gets every label whose score is at or above its threshold."),
    table("Labels and thresholds", headings, rows),
  );
}

function calibrationPart({ calibration, thresholds }) {
  const { report, temperature, platt } = calibration;
  const title = "What a score means";
  if (!report) {
    const scaled = temperature !== 1 || platt;
    const plain = "Scores are not calibrated: a score of 90 % does not mean right nine times in ten.";
    const known = "Scores are calibrated, but no figures of it are stored with the model.";
    return section("card-calibration", title, el("p", {}, scaled ? known : plain));
  }
  const meaning =
    thresholds === null
      ? "Scores are calibrated. Of the texts whose best score is near 90 %, about nine in ten are labelled right, "
      : "Scores are calibrated. Of the texts to which a label gives a score near 90 %, about nine in ten carry it, ";
  const fitted = report.method === "temperature" ? `Temperature ${report.temperature.toPrecision(4)}` : "A scale and a bias for each label";
  const others = report.held_back
    ? `the other ${grouped(report.reported_rows)}`
    : `${counted(report.reported_rows, "row")} of ${report.reported_file}`;
  return section(
    "card-calibration",
    title,
    el("p", {}, `${meaning}on texts like those that were fitted on.`),
    el("p", {}, `${fitted}, fitted on ${counted(report.fitted_rows, "row")} of ${report.file}; figures on ${others}.`),
    scoreTable("Calibration, before and after", report.figures, "calibration"),
    el("p", { class: "small" }, "ECE, the expected calibration error, is how far scores and shares of right answers lie apart; 0 is best. ", `${report.intervals}.`),
    (report.notes ?? []).map((note) => el("p", { class: "small" }, note)),
  );
}

function abstentionPart({ thresholds, abstain_threshold: below, abstention }) {
  if (thresholds !== null) return null;
  const title = "When no label is named";
  if (below === null) return section("card-abstention", title, el("p", {}, "Never: the best label is always named."));
  return section(
    "card-abstention",
    title,
    el("p", {}, `Where the best score is below ${level(below)}.`),
    abstention && scoreTable("What naming no label does", abstention.figures, "abstention"),
    abstention && el("p", { class: "small" }, `Figures on ${counted(abstention.reported_rows, "row")} of ${abstention.reported_file}.`),
  );
}

function int8Part({ quantization, guard, parity, problem_type: kind }) {
  const { scheme, running, kept_fp32: kept, exact_because: exact } = quantization;
  const title = running === "fp32" ? "Arithmetic: fp32" : "Arithmetic: int8 against fp32";
  return section(
    "card-int8",
    title,
    facts([
      ["Runs as", running === scheme ? running : `${running}; the bundle is ${scheme}`],
      kept?.length > 0 && ["Layers kept in fp32", kept.join(", ")],
      exact && ["Computes exactly, and slower", exact],
      parity && ["Compared at export", `${counted(parity.n, "sentence")} by PyTorch, fp32 and int8`],
    ]),
    guardNodes(guard, kind === MULTI),
  );
}

function guardNodes(guard, multi) {
  if (!guard) return el("p", {}, "How near int8 is to fp32 on the owner's own texts was not measured at this export.");
  const { max_accuracy_drop_points: drop, min_agreement_percent: agreement } = guard.limits;
  const limits = [
    drop !== null && `accuracy at most ${drop} points lower`,
    agreement !== null && `same label for at least ${agreement} %`,
  ].filter(Boolean);
  return [
    !guard.in_bundle && el("p", {}, el("strong", {}, "int8 missed the limits, so this model runs as fp32."), " What int8 would have done:"),
    el("p", {}, `Measured on ${counted(guard.evaluated, "text")} of ${guard.file}${limits.length ? `; limits: ${limits.join(", ")}` : ""}.`),
    guardTable("int8 against fp32", guard.figures, { multi }),
    el("p", { class: "small" }, `${guard.intervals}.`),
  ];
}

function goldenPart({ golden_check: check }) {
  const sentences = {
    passed: `Passed: the ${counted(check.texts, "text")} stored with the model got their answers on this machine too`,
    failed: `Failed: ${check.differing} of ${counted(check.texts, "text")} stored with the model got other answers on this machine, ${check.other_label} of them another label`,
    off: "Off: whether stored texts get their answers on this machine was not looked at",
  };
  const largest = check.largest_difference === null ? "" : `; scores differ by at most ${check.largest_difference.toFixed(4)}`;
  return section("card-golden", "Check at the start", el("p", {}, `${sentences[check.outcome] ?? check.outcome}${largest}.`));
}

function herePart({ limits, versions, threads, batching }) {
  return section(
    "card-here",
    "This service",
    facts([
      ["Texts a request", `at most ${grouped(limits.max_texts)}`],
      ["Characters a text", `at most ${grouped(limits.max_text_chars)}`],
      ["Bytes a request", `at most ${grouped(limits.max_body_bytes)}`],
      ["Requests at once", `at most ${grouped(limits.max_in_flight)} a process`],
      ["Wait", `at most ${grouped(limits.deadline_ms)} ms`],
      ["Processes and threads", `${threads.workers}, with ${counted(threads.intra_op, "thread")} for the model`],
      ["Requests share runs", batching.shared ? "yes" : `no: ${batching.alone_because}`],
      ["Versions", `inferer ${versions.inferer}, onnxruntime ${versions.onnxruntime}`],
    ]),
  );
}
