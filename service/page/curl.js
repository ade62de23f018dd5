// The command that asks the same from a shell.

import { bytesOf, byId, el, fill } from "./dom.js";
import { current } from "./key.js";

const LONGEST_ARGUMENT = 100_000; // Linux takes 131,071 bytes an argument

/** Return `text` as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the curl command that posts `body` as JSON to `path`. A shell variable stands for the key. */
function command(path, body) {
  const words = ["curl -s", quoted(new URL(path, document.baseURI).href)];
  if (current()) words.push('-H "x-api-key: $KEY"');
  words.push("-H 'content-type: application/json'");
  const data = JSON.stringify(body);
  if (bytesOf(data) < LONGEST_ARGUMENT) return [...words, `-d ${quoted(data)}`].join(" ");
  return `${words.join(" ")} --data-binary @- <<'END'\n${data}\nEND`;
}

/** Return a box with a command and a button to copy it. */
function commandBox(name, text) {
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
