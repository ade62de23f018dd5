// The API to read: openapi.json as a page.

import { call } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { offerToForget } from "./key.js";
import { idOf, operationNode, prose } from "./operation.js";
import { problem } from "./problem.js";
import { resolved } from "./schema.js";

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
let doc = null;

async function load() {
  const intro = byId("intro");
  try {
    doc = (await call("openapi.json", { insistent: true })).data;
    show();
    fill(byId("problem"));
  } catch (error) {
    doc = null;
    if (error.status === 0) error.next = "See that the service runs, then try again.";
    fill(byId("problem"), problem(error, load));
    fill(intro);
  }
  intro.setAttribute("aria-busy", "false");
}

function operations() {
  return Object.entries(doc.paths ?? {}).flatMap(([path, item]) => {
    const { parameters: shared, ...methods } = resolved(doc, item);
    return METHODS.filter((method) => methods[method]).map((method) => ({ path, method, operation: methods[method], shared }));
  });
}

/** Return [tag, its operations] in the order of the document's tags; those without a tag last. */
function byTag(all) {
  const groups = new Map((doc.tags ?? []).map(({ name }) => [name, []]));
  for (const entry of all) {
    const tag = entry.operation.tags?.[0] ?? "Other";
    groups.set(tag, [...(groups.get(tag) ?? []), entry]);
  }
  return [...groups].filter(([, entries]) => entries.length > 0);
}

function show() {
  const { info = {} } = doc;
  const groups = byTag(operations());
  document.title = info.title ?? "The API";
  byId("title").textContent = info.title ?? "The API";
  byId("version").textContent = [info.version && `version ${info.version}`, `OpenAPI ${doc.openapi}`].filter(Boolean).join(", ");
  fill(byId("intro"), prose(info.description));
  const described = new Map((doc.tags ?? []).map(({ name, description }) => [name, description]));
  fill(
    byId("contents"),
    groups.map(([tag, entries]) => [
      el("p", {}, tag),
      el(
        "ul",
        {},
        entries.map((entry) =>
          el("li", {}, el("a", { href: `#${idOf(entry)}` }, el("span", { class: "method" }, entry.method.toUpperCase()), " ", el("span", {}, entry.path))),
        ),
      ),
    ]),
  );
  byId("contents").hidden = groups.length === 0;
  fill(
    byId("operations"),
    groups.map(([tag, entries]) => [
      el("h2", { class: "operations-of" }, tag),
      prose(described.get(tag)),
      entries.map((entry) => operationNode(doc, entry)),
    ]),
    groups.length === 0 && el("p", {}, "The description names no route."),
  );
  openTarget();
}

/** Open what the address points at, and put the focus there. */
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || target.tagName !== "DETAILS") return;
  target.open = true;
  target.scrollIntoView();
  target.querySelector("summary").focus({ preventScroll: true });
}

/** Show the commands anew, with a key or without, and leave open what is open. */
function keyChanged() {
  if (!doc) return;
  const open = [...document.querySelectorAll("details[open][id]")].map((one) => one.id);
  show();
  for (const id of open) byId(id).open = true;
}

addEventListener("hashchange", openTarget);
byId("contents").addEventListener("click", (event) => {
  if (event.target.closest("a")?.hash === location.hash) openTarget(); // the same again is no change of the address
});
offerToForget(keyChanged);
load();
