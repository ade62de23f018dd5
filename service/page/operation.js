// One operation of the API: what it takes, examples with the curl that sends them, what it answers.

import { command, commandBox } from "./curl.js";
import { el, table } from "./dom.js";
import { fieldsOf, limitsInWords, resolved, sampleOf, typeInWords, variantsOf } from "./schema.js";

/** Return a description as paragraphs; `code` in it is set as code, the rest of Markdown stays as it is written. */
export function prose(text) {
  const paragraphs = (text ?? "").split(/\n\s*\n/).filter((part) => part.trim());
  const inline = (part) => part.split(/`([^`]+)`/).map((piece, index) => (index % 2 ? el("code", {}, piece) : piece));
  return paragraphs.map((part) => el("p", {}, inline(part)));
}

/** Return the id of an operation, for links to it. */
export const idOf = ({ operation, method, path }) =>
  `op-${operation.operationId ?? `${method}-${path.replace(/[^a-z0-9]+/gi, "-")}`}`;

/** Return the box of one operation; `entry` is {path, method, operation, shared}. */
export function operationNode(doc, entry) {
  const { path, method, operation, shared } = entry;
  const parameters = merged(doc, shared, operation.parameters);
  const inside = el(
    "div",
    { class: "inside" },
    prose(operation.description),
    parameters.length > 0 && part("Parameters", fieldTable(doc, `Parameters of ${path}`, parameters.map(asField))),
    requestPart(doc, entry, parameters),
    part("Answers", Object.entries(operation.responses ?? {}).map(([status, response]) => responseNode(doc, status, response))),
  );
  return el(
    "details",
    { class: "operation", id: idOf(entry) },
    el(
      "summary",
      {},
      el("h3", { class: operation.deprecated ? "deprecated" : null }, el("span", { class: "method" }, method.toUpperCase()), " ", el("span", { class: "path" }, path)),
      el("span", { class: "says" }, operation.summary ?? "", operation.deprecated && " (deprecated)"),
    ),
    inside,
  );
}

const part = (title, ...children) => el("section", {}, el("h4", {}, title), children);

/** Return the parameters of a path and of its operation, whose own go over those of the path. */
function merged(doc, ...lists) {
  const all = lists.flatMap((list) => list ?? []).map((one) => resolved(doc, one));
  return [...new Map(all.map((one) => [`${one.in} ${one.name}`, one])).values()];
}

function asField({ name, in: place, schema, content, description, required }) {
  const inner = schema ?? Object.values(content ?? {})[0]?.schema;
  return { name, place, schema: inner, description, required };
}

function fieldTable(doc, name, fields) {
  const where = fields.some((field) => field.place);
  const meant = fields.some((field) => field.description ?? resolved(doc, field.schema).description);
  const rows = fields.map(({ name: field, place, schema, description, required }) => {
    const limits = limitsInWords(doc, schema);
    const { description: says, deprecated } = resolved(doc, schema);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, el("span", { class: deprecated ? "field deprecated" : "field" }, field), required && el("span", { class: "required" }, "required")),
      where && el("td", {}, place),
      el("td", { class: "type" }, typeInWords(doc, schema), limits.length > 0 && el("span", { class: "small" }, `; ${limits.join(", ")}`)),
      meant && el("td", { class: "says" }, prose(description ?? says)),
    );
  });
  return table(name, ["Name", ...(where ? ["In"] : []), "Type", ...(meant ? ["Meaning"] : [])], rows);
}

/** Return the table or tables of the fields of a body, or its type where it has none. */
function schemaNodes(doc, name, schema) {
  if (schema === undefined) return null;
  const variants = variantsOf(doc, schema);
  return variants.map((variant) => {
    const fields = fieldsOf(doc, variant.schema);
    const title = variant.name && variants.length > 1 ? `${name}: ${variant.name}` : name;
    return [
      variants.length > 1 && el("p", {}, el("strong", {}, variant.name), " ", resolved(doc, variant.schema).description ?? ""),
      fields.length > 0
        ? fieldTable(doc, title, fields)
        : el("p", {}, "Type: ", typeInWords(doc, variant.schema), limitsInWords(doc, variant.schema).map((limit) => `, ${limit}`)),
    ];
  });
}

/** Return the examples of a media type as {name, description, value}. */
function examplesOf(doc, media) {
  const named = Object.entries(media.examples ?? {}).map(([name, example]) => {
    const { summary, description, value } = resolved(doc, example);
    return { name: summary ?? name, description, value };
  });
  if (named.length) return named.filter(({ value }) => value !== undefined);
  if (media.example !== undefined) return [{ name: "Example", value: media.example }];
  const { examples } = resolved(doc, media.schema);
  return (examples ?? []).map((value) => ({ name: "Example", value }));
}

function requestPart(doc, entry, parameters) {
  const { path, method, operation } = entry;
  const body = operation.requestBody && resolved(doc, operation.requestBody);
  const asks = ([type, media]) => {
    const given = examplesOf(doc, media);
    const examples = given.length ? given : [{ name: "Example", value: sampleOf(doc, media.schema) }];
    return [
      el("p", { class: "small" }, type, body.required ? "; required" : ""),
      schemaNodes(doc, `Body of ${method.toUpperCase()} ${path}`, media.schema),
      examples.map((example) => exampleNode(entry, parameters, type, example)),
    ];
  };
  if (!body) return part("To send", exampleNode(entry, parameters, null, { name: null }));
  return part("Body", prose(body.description), Object.entries(body.content ?? {}).map(asks));
}

function exampleNode({ path, method, operation }, parameters, type, { name, description, value }) {
  const usual = value === undefined ? "get" : "post"; // what curl does by itself
  const text = command(addressOf(path, parameters), value, {
    method: method === usual ? null : method.toUpperCase(),
    headers: needed(parameters, "header").map(([header, one]) => `${header}: ${one}`),
    type,
  });
  const title = name ?? operation.summary ?? path;
  return el(
    "div",
    { class: "example" },
    name && el("p", {}, el("strong", {}, name)),
    prose(description),
    commandBox(`the command: ${title}`, text),
  );
}

/** Return [name, value] of the parameters in `place` that a request must have. */
function needed(parameters, place) {
  return parameters
    .filter((one) => one.in === place && one.required)
    .map((one) => [one.name, String(one.example ?? sampleOf({}, one.schema ?? {}))]);
}

function addressOf(path, parameters) {
  let address = path.replace(/^\//, ""); // relative, as the service may lie behind a prefix
  for (const [name, value] of needed(parameters, "path")) address = address.replaceAll(`{${name}}`, encodeURIComponent(value));
  const query = new URLSearchParams(needed(parameters, "query")).toString();
  return query ? `${address}?${query}` : address || "./";
}

function responseNode(doc, status, response) {
  const { description, headers, content } = resolved(doc, response);
  const named = Object.entries(headers ?? {}).map(([name, header]) => ({ name, ...resolved(doc, header) }));
  const bodies = Object.entries(content ?? {});
  const head = [el("span", { class: "status" }, status), " ", description ?? ""];
  if (named.length === 0 && bodies.length === 0) return el("p", { class: "response" }, head);
  return el(
    "details",
    { class: "response" },
    el("summary", {}, head),
    named.length > 0 && fieldTable(doc, `Headers of ${status}`, named),
    bodies.map(([type, media]) => [
      el("p", { class: "small" }, type),
      media.schema && schemaNodes(doc, `Body of ${status}`, media.schema),
      examplesOf(doc, media).map(({ name, value }) => replyNode(name, value)),
    ]),
  );
}

function replyNode(name, value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return el(
    "div",
    { class: "example" },
    el("p", { class: "small" }, name),
    el("pre", { class: "reply", tabindex: "0", role: "group", "aria-label": `reply: ${name}` }, el("code", {}, text)),
  );
}
