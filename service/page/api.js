// Every request to the service, and what its errors mean in sentences.

import { ask, current, wasDeclined } from "./key.js";

const UNREACHABLE = "The server does not answer.";
const NEXT = {
  0: "See that it runs and that you are connected, then try again. What you typed is still here.",
  401: "Try again to be asked for the key.",
  413: "Shorten the text and try again.",
  422: "Change the text or the options and try again.",
  429: "It has too much to do: try again in a moment.",
  500: "Try again. If it goes on, tell whoever runs the service, with the request id.",
  503: "It is not ready or too busy: try again in a moment.",
};

/** What went wrong, as a sentence, and what to do next. status: 0 when no reply came. */
export class ReplyError extends Error {
  constructor(sentence, { status = 0, requestId = "", retryAfterS = null } = {}) {
    super(sentence);
    this.status = status;
    this.next = NEXT[status] ?? "";
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
  }
}

/** Send one request and return {data, elapsedMs, timings}; `body` makes it a POST of JSON.
 *
 * A missing key is asked for, and then the request goes on; once somebody declined, only for an `insistent` one.
 * Throws ReplyError, or the AbortError of `signal`.
 */
export async function call(path, { body, signal, insistent = false } = {}) {
  for (;;) {
    const key = current();
    const reply = await send(path, body, signal, key);
    if (reply.status !== 401) return checked(reply);
    if (key !== current()) continue; // another request has asked for the key meanwhile
    if (wasDeclined() && !insistent) throw noKey();
    if (!(await ask(problemOf))) throw noKey();
    signal?.throwIfAborted();
  }
}

const noKey = () => new ReplyError("This service asks for a key, and none was given.", { status: 401 });

/** Return why the server does not take `key`, as a sentence, or null. */
async function problemOf(key) {
  try {
    const reply = await send("info", undefined, undefined, key);
    return reply.status === 401 ? "The server does not take this key. Look whether it is whole, and try again." : null;
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

function checked({ status, headers, text, elapsedMs }) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    data = null; // a proxy's page, or no body
  }
  if (status === 200 && data !== null) return { data, elapsedMs, timings: stages(headers.get("server-timing")) };
  const seconds = Number.parseFloat(headers.get("retry-after"));
  const unsaid = status === 200 ? "The answer is no JSON." : `The server answered ${status} and did not say why.`;
  throw new ReplyError(sentence(data?.error) ?? unsaid, {
    status,
    requestId: data?.request_id ?? headers.get("x-request-id") ?? "",
    retryAfterS: Number.isFinite(seconds) ? seconds : null,
  });
}

function sentence(error) {
  if (typeof error !== "string" || !error) return null;
  const plain = error.replace(/^field 'text': /, "");
  return plain[0].toUpperCase() + plain.slice(1) + (/[.!?]$/.test(plain) ? "" : ".");
}

/** Return the stages of a Server-Timing header, name -> milliseconds. */
function stages(header) {
  const found = (header ?? "").matchAll(/([a-z]+);dur=([0-9.]+)/g);
  return Object.fromEntries([...found].map(([, name, ms]) => [name, Number(ms)]));
}
