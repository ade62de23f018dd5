// What /info says of the model, once it is known, and what follows from it for every part of the page.

export const MULTI = "multi_label_classification";

/** The reply of /info; null until it came. */
export const model = { info: null };

/** Return [label, score] of every score, best first; equal ones in the model's order.
 *
 * An object's own order will not do: names like "0" and "1" come first in it, whatever was sent.
 */
export function ranked(scores) {
  const place = new Map((model.info?.labels ?? []).map((label, index) => [label, index]));
  return Object.entries(scores).sort(
    ([one, a], [other, b]) => b - a || (place.get(one) ?? 0) - (place.get(other) ?? 0),
  );
}

/** Return the score from which `label` is named under `options`; null where no score is asked for. */
export function thresholdOf(label, options) {
  if (!model.info) return null;
  const own = model.info.thresholds;
  if (own === null) return model.info.abstain_threshold;
  return options.threshold ?? (Object.hasOwn(own, label) ? own[label] : null);
}

/** Return how a long text is read under `options`. */
export const truncationOf = (options) => options.truncation ?? model.info?.truncation ?? "head";

/** Return how much of a text was read, in a sentence. */
export function readInWords(prediction, options) {
  const tokens = `${prediction.num_tokens.toLocaleString("en")} tokens`;
  const most = model.info ? model.info.max_length.toLocaleString("en") : "fewer";
  if (prediction.windows > 1) return `${tokens}, all read, in ${prediction.windows} parts of up to ${most}.`;
  if (!prediction.truncated) return `${tokens}, all read.`;
  const unread = {
    tail: `${most}, of the end: what comes before went unread.`,
    head_tail: `${most}, of the beginning and of the end: the middle went unread.`,
  };
  return `${tokens}; the model reads ${unread[truncationOf(options)] ?? `${most}: what follows went unread.`}`;
}
