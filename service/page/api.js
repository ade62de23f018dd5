// Requests to the service. Errors become sentences with a next step.

import { askForKey, currentKey, wasDeclined } from "./key.js";

const UNREACHABLE = "The server does not respond.";
const NEXT_STEPS = {
  0: "Check your connection and that the service is running, then try again.",
  401: "Try again to enter the key.",
  413: "Shorten the text and try again.",
  422: "Change the text or the options and try again.",
  429: "The server is busy. Try again in a moment.",
  500: "Try again. If the error persists, give the request id to the operator of the service.",
  503: "The server is busy or not ready. Try again in a moment.",
};

/** An error as a sentence, with a next step. status: 0 without a reply. */
export class ReplyError extends Error {
  constructor(sentence, { status = 0, requestId = "", retryAfterS = null } = {}) {
    super(sentence);
    this.status = status;
    this.next = NEXT_STEPS[status] ?? "";
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }
}

/** Send one request and return {data, elapsedMs, timings}; `body` makes it a POST of JSON.
 *
 * On 401 the key dialog opens and the request is sent again. After "Not now" only an `explicit` request opens it.
 * Throws ReplyError, or the AbortError of `signal`.
 */
export async function call(path, { body, signal, explicit = false } = {}) {
  for (;;) {
    const key = currentKey();
    const reply = await send(path, body, signal, key);
    if (reply.status !== 401) return parsed(reply);
    if (key !== currentKey()) continue; // another request got a new key meanwhile
    if (wasDeclined() && !explicit) throw missingKey();
    if (!(await askForKey(faultOfKey))) throw missingKey();
    signal?.throwIfAborted();
  }
}

const missingKey = () => new ReplyError("This service requires a key, and none was given.", { status: 401 });

/** Return the reason for which the server rejects `key`, as a sentence, or null. */
async function faultOfKey(key) {
  try {
    const reply = await send("info", undefined, undefined, key);
    return reply.status === 401 ? "The server rejects this key. Check that it is complete and try again." : null;
  } catch (error) {
    return `${error.message} ${error.next}`;
  }
}

async function send(path, body, signal, key) {
  const headers = new Headers();
  if (body !== undefined) headers.set("content-type", "application/json");
  try {
    if (key) headers.set("x-api-key", key);
  } catch {
    throw new ReplyError("This key has characters that cannot be sent in a header.", { status: 401 });
  }
  const started = performance.now();
  try {
    const method = body === undefined ? "GET" : "POST";
    const response = await fetch(path, { method, headers, body: JSON.stringify(body), signal });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, elapsedMs: performance.now() - started };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ReplyError(UNREACHABLE);
  }
}

function parsed({ status, headers, text, elapsedMs }) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    data = null; // an HTML page of a proxy, or an empty body
  }
  if (status === 200 && data !== null) return { data, elapsedMs, timings: stages(headers.get("server-timing")) };
  const seconds = Number.parseFloat(headers.get("retry-after"));
  const unexplained = status === 200 ? "The reply is not JSON." : `The server returned status ${status} without an explanation.`;
  throw new ReplyError(sentence(data?.error) ?? unexplained, {
    status,
    requestId: data?.request_id ?? headers.get("x-request-id") ?? "",
    retryAfterS: Number.isFinite(seconds) ? seconds : null,
  });
}

function sentence(error) {
  if (typeof error !== "string" || !error) return null;
  const plain = error.replace(/^field 'text(_pair)?': /, "");
  return plain[0].toUpperCase() + plain.slice(1) + (/[.!?]$/.test(plain) ? "" : ".");
}

/** Return the stages of a Server-Timing header, name -> milliseconds. */
function stages(header) {
  const found = (header ?? "").matchAll(/([a-z]+);dur=([0-9.]+)/g);
  return Object.fromEntries([...found].map(([, name, ms]) => [name, Number(ms)]));
}
