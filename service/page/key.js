// The API key: asked for in a dialog, kept in sessionStorage (this tab, until it is closed), sent as a header only.

import { byId, el } from "./dom.js";

const PLACE = "inferer-key";
let key = sessionStorage.getItem(PLACE) ?? "";
let asking = null;
let declined = false;
let told = () => {};

export const current = () => key;

/** Return whether the person said "Not now" since a key was last asked for. */
export const wasDeclined = () => declined;

function keep(value) {
  key = value;
  declined = false;
  if (value) sessionStorage.setItem(PLACE, value);
  else sessionStorage.removeItem(PLACE);
  told();
}

/** Ask for a key until `check` (which returns a sentence when it is not right) takes it. Return whether there is one.
 *
 * Requests that are refused at the same time share one dialog.
 */
export function ask(check) {
  asking ??= dialog(check).finally(() => {
    asking = null;
  });
  return asking;
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
    el("h2", { id: "key-title" }, "This service asks for a key"),
    el(
      "p",
      { id: "key-help" },
      "Whoever runs the service has given you one. It is sent to this server alone, and forgotten when you close this tab.",
    ),
    el("label", { for: "key" }, "Key"),
    field,
    problem,
    el("div", { class: "buttons" }, use, cancel),
  );
  const box = el("dialog", { "aria-labelledby": "key-title" }, form);
  if (key) problem.textContent = "The key that was used until now is not taken any more.";
  document.body.append(box);
  box.showModal();
  field.focus();

  return new Promise((resolve) => {
    const end = (given) => {
      box.remove();
      resolve(given);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (!value || use.disabled) {
        problem.textContent = "There is no key in the field.";
        return;
      }
      use.disabled = true;
      const wrong = await check(value);
      use.disabled = false;
      if (!box.isConnected) return;
      if (wrong) {
        problem.textContent = wrong;
        field.select();
        field.focus();
      } else {
        keep(value);
        box.close();
        end(true);
      }
    });
    cancel.addEventListener("click", () => box.close());
    box.addEventListener("close", () => {
      if (!box.isConnected) return; // taken: this came after
      declined = true;
      end(false);
    });
  });
}

/** Show the button that forgets the key while there is one, and call `changed` when that changes. */
export function offerToForget(changed) {
  const button = byId("forget-key");
  told = () => {
    button.hidden = !key;
    changed();
  };
  button.addEventListener("click", () => keep(""));
  button.hidden = !key;
}
