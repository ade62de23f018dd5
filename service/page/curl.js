// The command that asks the same from a shell.

import { bytesOf, byId, el, fill } from "./dom.js";
import { current } from "./key.js";

const LONGEST_ARGUMENT = 100_000; // Linux takes 131,071 bytes an argument

/** Return `text` as one word of a POSIX shell. */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the curl that sends `body` as `type` to `path`, or nothing; the key is named by a variable, never shown. */
export function command(path, body, { method = null, headers = [], type = "application/json" } = {}) {
  const words = ["curl -s", quoted(new URL(path, document.baseURI).href)];
  if (method) words.splice(1, 0, `-X ${method}`);
  if (current()) words.push('-H "x-api-key: $KEY"');
  words.push(...headers.map((header) => `-H ${quoted(header)}`));
  if (body === undefined) return words.join(" ");
  const data = /json/.test(type) ? JSON.stringify(body) : String(body);
  words.push(`-H ${quoted(`content-type: ${type}`)}`);
  if (bytesOf(data) < LONGEST_ARGUMENT) return [...words, `-d ${quoted(data)}`].join(" ");
  return `${words.join(" ")} --data-binary @- <<'END'\n${data}\nEND`;
}

/** Return a box that shows a command with a button that copies it. */
export function commandBox(name, text) {
  const code = el("code", {}, text);
  const status = el("span", { class: "small", role: "status" });
  const button = el("button", { type: "button" }, "Copy", el("span", { class: "hidden" }, ` ${name}`));
  button.addEventListener("click", async () => {
    status.textContent = (await copied(code)) ? "Copied" : "It is marked: copy it with Ctrl + C";
  });
  return el(
    "div",
    { class: "command" },
    el("pre", { tabindex: "0", role: "group", "aria-label": name }, code),
    el("div", { class: "buttons" }, button, status),
  );
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent); // there on https and on this machine only
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

/** Fill the element `place` with the commands that `asked` lists, when it is opened and at every call of what returns. */
export function commandDetails(place, asked) {
  const inside = el("div");
  const details = el("details", { class: "curl" }, el("summary", {}, "The same with curl"), inside);
  fill(byId(place), details);
  const update = () => {
    if (!details.open) return;
    fill(
      inside,
      asked().map(({ name, path, body, note }) => [commandBox(name, command(path, body)), note && el("p", { class: "small" }, note)]),
      current() && el("p", { class: "small" }, "Put your key into the shell's variable first: ", el("code", {}, "KEY=…")),
    );
  };
  details.addEventListener("toggle", update);
  return update;
}
