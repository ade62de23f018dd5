// Many texts in requests within the limits of the service, with retries while it is busy and an error per text.

import { call, ReplyError } from "./api.js";
import { bytesOf, characters, grouped } from "./dom.js";
import { textOfLine } from "./model.js";

const MAX_PER_REQUEST = 32; // small, for visible progress and a fair share for other clients
const MAX_WAIT_S = 60;

/** Return the body of a request for `rows`. */
export const requestBody = (rows, options) => ({ texts: rows.map((row) => textOfLine(row.text)), ...options });

/** Return the limit that the text exceeds on its own, as a sentence, or null. */
function exceededLimit(text, limits, options) {
  const count = characters(text);
  if (count > limits.max_text_chars) {
    return `Has ${grouped(count)} characters, at most ${grouped(limits.max_text_chars)} are allowed.`;
  }
  const bytes = bytesOf(JSON.stringify({ texts: [text], ...options }));
  if (bytes <= limits.max_body_bytes) return null;
  return `Needs a request of ${grouped(bytes)} bytes, at most ${grouped(limits.max_body_bytes)} are allowed.`;
}

/** Return the first `rows` that fit one request, at most `size`; a text over a limit gets its `problem` and is skipped. */
export function nextBatch(rows, limits, options, size) {
  const batch = [];
  let bytes = bytesOf(JSON.stringify(requestBody([], options)));
  for (const row of rows) {
    row.problem ??= exceededLimit(row.text, limits, options);
    if (row.problem) continue;
    bytes += bytesOf(JSON.stringify(row.text)) + 1; // and a comma
    if (batch.length > 0 && (batch.length === size || bytes > limits.max_body_bytes)) break;
    batch.push(row);
  }
  return batch;
}

/** Give each row its `prediction` or its `problem`, in order.
 *
 * Calls onProgress() after each request and onWait(sentence) while the server is busy. Throws ReplyError for other
 * errors; the rows without a prediction or problem are still to be sent.
 */
export async function sendAll(rows, { limits, options, signal, onProgress, onWait }) {
  let size = Math.min(limits.max_texts, MAX_PER_REQUEST);
  let refusals = 0;
  for (;;) {
    signal.throwIfAborted();
    const left = rows.filter((row) => !row.prediction && !row.problem);
    const batch = nextBatch(left, limits, options, size);
    if (batch.length === 0) break;
    try {
      await sendBatch(batch, options, signal);
      refusals = 0;
      onWait("");
    } catch (error) {
      if (error.status === 413 && batch.length > 1) {
        size = Math.ceil(batch.length / 2); // a proxy with a lower limit than the service
        continue;
      }
      if (error.status === 503) size = Math.max(1, Math.floor(size / 2)); // the batch may exceed the deadline
      if (error.status !== 429 && error.status !== 503) throw error;
      refusals += 1;
      const seconds = Math.min(Math.max(error.retryAfterS ?? 1, Math.min(refusals - 1, 10)), MAX_WAIT_S);
      onWait(`The server is busy. Next attempt in ${seconds} s${refusals > 1 ? `, after ${refusals} refusals` : ""}.`);
      await pause(seconds, signal);
    }
    onProgress();
  }
  onProgress();
}

async function sendBatch(rows, options, signal) {
  try {
    const { data } = await call("predict", { body: requestBody(rows, options), signal, explicit: true });
    rows.forEach((row, index) => {
      row.prediction = data.predictions[index];
    });
  } catch (error) {
    // A text is at fault: single requests find it. An option at fault fails the whole run.
    if (error.status !== 422 || !/field 'texts\[/i.test(error.message)) throw error;
    for (const row of rows) await sendSingle(row, options, signal);
  }
}

async function sendSingle(row, options, signal) {
  if (row.prediction) return;
  const [text, pair] = [textOfLine(row.text)].flat();
  const body = { text, ...(pair !== undefined && { text_pair: pair }), ...options };
  try {
    row.prediction = (await call("predict", { body, signal, explicit: true })).data;
  } catch (error) {
    if (!(error instanceof ReplyError) || error.status !== 422) throw error;
    row.problem = error.message;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, 1000 * seconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}
