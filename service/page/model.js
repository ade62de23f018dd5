// The reply of /info, and values that depend on it.

import { percent } from "./dom.js";

export const MULTI = "multi_label_classification";
export const REGRESSION = "regression";

/** `info` is the reply of /info, null until it arrives. */
export const model = { info: null };

/** Return [label, score] pairs, best first; ties in the model's order.
 *
 * The order of the object's keys does not serve: JavaScript puts keys such as "0" and "1" first.
 */
export function ranked(scores) {
  const place = new Map((model.info?.labels ?? []).map((label, index) => [label, index]));
  return Object.entries(scores).sort(
    ([one, a], [other, b]) => b - a || (place.get(one) ?? 0) - (place.get(other) ?? 0),
  );
}

/** Return the least score for which `options` give `label`; null if every score counts. */
export function thresholdOf(label, options) {
  if (!model.info) return null;
  const own = model.info.thresholds;
  if (own === null) return model.info.abstain_threshold;
  return options.threshold ?? (Object.hasOwn(own, label) ? own[label] : null);
}

/** Return whether scores are numbers of any size, and not shares. */
export const isNumber = () => model.info?.activation === "none";

/** Return a score for people. */
export const scoreInWords = (score) => (isNumber() ? String(Number(score.toPrecision(6))) : percent(score));

/** Return the length of a score's bar, from 0 to 1: of a number, its place between the least and the most of `all`. */
export function shareOf(score, all) {
  if (!isNumber()) return score;
  const least = Math.min(...all);
  const most = Math.max(...all);
  return most > least ? (score - least) / (most - least) : 1;
}

/** Return whether the model ranks documents for a query. */
export const isRanker = (info) => info.text_pair && info.labels.length === 1;

/** Return a line as the text or the pair of a request: the texts of a pair stand on both sides of a tab. */
export function textOfLine(line) {
  const sides = line.split("\t");
  return model.info?.text_pair && sides.length === 2 ? sides : line;
}

/** Return the truncation of a request with `options`. */
const truncationOf = (options) => options.truncation ?? model.info?.truncation ?? "head";

/** Return a sentence about the tokens that the model used. */
export function tokenUsage(prediction, options) {
  const tokens = `${prediction.num_tokens.toLocaleString("en")} tokens`;
  const most = model.info ? model.info.max_length.toLocaleString("en") : "fewer";
  if (prediction.windows > 1) return `${tokens}, all used, in ${prediction.windows} windows of up to ${most}.`;
  if (!prediction.truncated) return `${tokens}, all used.`;
  const cut = {
    tail: `${most} from the end and ignores the beginning.`,
    head_tail: `${most} from the beginning and the end and ignores the middle.`,
  };
  return `${tokens}; the model uses ${cut[truncationOf(options)] ?? `${most} from the beginning and ignores the rest.`}`;
}
