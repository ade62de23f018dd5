// Many texts to the service: in requests that it takes, waiting when it is busy, each fault kept to its own text.

import { call, ReplyError } from "./api.js";
import { bytesOf, characters, grouped } from "./dom.js";

const AT_ONCE = 32; // so that there is progress to see, and others get their turn
const LONGEST_WAIT_S = 60;

/** Return the body of a request for `rows`. */
export const bodyOf = (rows, options) => ({ texts: rows.map((row) => row.text), ...options });

/** Return why the text can be sent in no request, as a sentence, or null. */
function tooLong(text, limits, options) {
  const count = characters(text);
  if (count > limits.max_text_chars) {
    return `Has ${grouped(count)} characters, at most ${grouped(limits.max_text_chars)} are allowed.`;
  }
  const bytes = bytesOf(JSON.stringify({ texts: [text], ...options }));
  if (bytes <= limits.max_body_bytes) return null;
  return `Needs a request of ${grouped(bytes)} bytes, at most ${grouped(limits.max_body_bytes)} are allowed.`;
}

/** Return as many of the first `rows` as one request takes; those too long for any have their problem noted. */
export function nextRequest(rows, limits, options, most) {
  const some = [];
  let bytes = bytesOf(JSON.stringify(bodyOf([], options)));
  for (const row of rows) {
    row.problem ??= tooLong(row.text, limits, options);
    if (row.problem) continue;
    bytes += bytesOf(JSON.stringify(row.text)) + 1; // and a comma
    if (some.length > 0 && (some.length === most || bytes > limits.max_body_bytes)) break;
    some.push(row);
  }
  return some;
}

/** Give every row its `prediction` or its `problem`, in order.
 *
 * answered() is called when some have theirs, waiting(sentence) when the server asks for patience. Throws ReplyError
 * for what is not a text's own fault: rows without either are what is left.
 */
export async function sendAll(rows, { limits, options, signal, answered, waiting }) {
  let most = Math.min(limits.max_texts, AT_ONCE);
  let refusals = 0;
  for (;;) {
    signal.throwIfAborted();
    const left = rows.filter((row) => !row.prediction && !row.problem);
    const some = nextRequest(left, limits, options, most);
    if (some.length === 0) break;
    try {
      await sendSome(some, options, signal);
      refusals = 0;
      waiting("");
    } catch (error) {
      if (error.status === 413 && some.length > 1) {
        most = Math.ceil(some.length / 2); // a proxy before the service takes less than it does
        continue;
      }
      if (error.status === 503) most = Math.max(1, Math.floor(most / 2)); // it may be the sum that takes too long
      if (error.status !== 429 && error.status !== 503) throw error;
      refusals += 1;
      const seconds = Math.min(Math.max(error.retryAfterS ?? 1, Math.min(refusals - 1, 10)), LONGEST_WAIT_S);
      waiting(`The server is busy. The next try is in ${seconds} s${refusals > 1 ? `, after ${refusals} refusals` : ""}.`);
      await pause(seconds, signal);
    }
    answered();
  }
  answered();
}

async function sendSome(rows, options, signal) {
  try {
    const { data } = await call("predict", { body: bodyOf(rows, options), signal, insistent: true });
    rows.forEach((row, index) => {
      row.prediction = data.predictions[index];
    });
  } catch (error) {
    // Which of the texts are at fault is found by asking for each alone; a fault of the options is everybody's.
    if (error.status !== 422 || !/field 'texts\[/i.test(error.message)) throw error;
    for (const row of rows) await sendOne(row, options, signal);
  }
}

async function sendOne(row, options, signal) {
  if (row.prediction) return;
  try {
    row.prediction = (await call("predict", { body: { text: row.text, ...options }, signal, insistent: true })).data;
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
