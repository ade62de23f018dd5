// The same request as a curl command.

import { bytesOf, byId, el, fill } from "./dom.js";
import { currentKey } from "./key.js";

const MAX_ARGUMENT_BYTES = 100_000; // Linux allows 131,071 per argument

/** Return `text` as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Return the curl command that posts `body` as JSON to `path`. A shell variable stands for the key. */
function command(path, body) {
  const words = ["curl -s", quoted(new URL(path, document.baseURI).href)];
  if (currentKey()) words.push('-H "x-api-key: $KEY"');
  words.push("-H 'content-type: application/json'");
  const data = JSON.stringify(body);
  if (bytesOf(data) < MAX_ARGUMENT_BYTES) return [...words, `-d ${quoted(data)}`].join(" ");
  return `${words.join(" ")} --data-binary @- <<'END'\n${data}\nEND`;
}

/** Return a box with a command and a button to copy it. */
function commandBox(name, text) {
  const code = el("code", {}, text);
  const status = el("span", { class: "small", role: "status" });
  const button = el("button", { type: "button" }, "Copy", el("span", { class: "hidden" }, ` ${name}`));
  button.addEventListener("click", async () => {
    status.textContent = (await copied(code)) ? "Copied" : "Selected: copy with Ctrl + C";
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
    await navigator.clipboard.writeText(code.textContent); // available on https and localhost only
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}

/** Add a block to the element `place` with the commands that `requests` returns; returns the function that updates it. */
export function commandDetails(place, requests) {
  const inside = el("div");
  const details = el("details", { class: "curl" }, el("summary", {}, "Same request with curl"), inside);
  fill(byId(place), details);
  const update = () => {
    if (!details.open) return;
    fill(
      inside,
      requests().map(({ name, path, body, note }) => [commandBox(name, command(path, body)), note && el("p", { class: "small" }, note)]),
      currentKey() && el("p", { class: "small" }, "Set your key as a shell variable first: ", el("code", {}, "KEY=…")),
    );
  };
  details.addEventListener("toggle", update);
  return update;
}
