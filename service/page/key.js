// The API key: entered in a dialog, kept in sessionStorage until the tab closes, sent only as a header.

import { byId, el } from "./dom.js";

const PLACE = "inferer-key";
let key = sessionStorage.getItem(PLACE) ?? "";
let openDialog = null;
let declined = false;
let onChange = () => {};

export const currentKey = () => key;

/** Return whether the user chose "Not now" in the last dialog. */
export const wasDeclined = () => declined;

function store(value) {
  key = value;
  declined = false;
  if (value) sessionStorage.setItem(PLACE, value);
  else sessionStorage.removeItem(PLACE);
  onChange();
}

/** Open the dialog until `check(key)` returns null instead of a fault. Resolves to whether a key was entered.
 *
 * Requests that are refused at the same time share one dialog.
 */
export function askForKey(check) {
  openDialog ??= dialog(check).finally(() => {
    openDialog = null;
  });
  return openDialog;
}

function dialog(check) {
  const problem = el("p", { id: "key-problem", class: "problem-line", role: "alert" });
  const field = el("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "key-help key-problem",
  });
  const use = el("button", { type: "submit", class: "main" }, "Use this key");
  const cancel = el("button", { type: "button" }, "Not now");
  const form = el(
    "form",
    { novalidate: true },
    el("h2", { id: "key-title" }, "This service requires a key"),
    el(
      "p",
      { id: "key-help" },
      "You get it from the operator of the service. It goes only to this server and is forgotten when you close this tab.",
    ),
    el("label", { for: "key" }, "Key"),
    field,
    problem,
    el("div", { class: "buttons" }, use, cancel),
  );
  const box = el("dialog", { "aria-labelledby": "key-title" }, form);
  if (key) problem.textContent = "The server no longer accepts the previous key.";
  document.body.append(box);
  box.showModal();
  field.focus();

  return new Promise((resolve) => {
    const end = (entered) => {
      box.remove();
      resolve(entered);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (!value || use.disabled) {
        problem.textContent = "Enter a key first.";
        return;
      }
      use.disabled = true;
      const fault = await check(value);
      use.disabled = false;
      if (!box.isConnected) return;
      if (fault) {
        problem.textContent = fault;
        field.select();
        field.focus();
      } else {
        store(value);
        box.close();
        end(true);
      }
    });
    cancel.addEventListener("click", () => box.close());
    box.addEventListener("close", () => {
      if (!box.isConnected) return; // closed after a right key
      declined = true;
      end(false);
    });
  });
}

/** Show the button that forgets the key while there is one, and call `changed` when the key changes. */
export function offerToForget(changed) {
  const button = byId("forget-key");
  onChange = () => {
    button.hidden = !key;
    changed();
  };
  button.addEventListener("click", () => store(""));
  button.hidden = !key;
}
