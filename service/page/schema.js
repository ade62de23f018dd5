// JSON Schemas of OpenAPI 3.1 in words: what a $ref points to, a type in a phrase, fields as rows, an example.

import { counted } from "./dom.js";

const DEEPEST = 6; // of fields within fields
const LONGEST_LIST = 12; // of an enum
const LONGEST_PATTERN = 40; // beyond it nobody reads it

/** Return what `node` is once its $refs are followed; fields beside a $ref go over those it points to. */
export function resolved(doc, node) {
  const seen = new Set();
  let found = node;
  while (typeof found?.$ref === "string" && !seen.has(found.$ref)) {
    seen.add(found.$ref);
    const { $ref, ...beside } = found;
    const target = pointed(doc, $ref);
    if (typeof target !== "object" || target === null) return { description: `(${$ref} is not in this document)`, ...beside };
    found = { ...target, ...beside };
  }
  return found ?? {};
}

function pointed(doc, ref) {
  if (!ref.startsWith("#")) return undefined; // of another document, which is not fetched
  let node = doc;
  for (const step of ref.slice(1).split("/").slice(1)) {
    const name = decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
    if (typeof node !== "object" || node === null || !Object.hasOwn(node, name)) return undefined;
    node = node[name];
  }
  return node;
}

const shown = (value) => JSON.stringify(value);

/** Return the types that `schema` names; in 3.1 there may be several. */
const typesOf = (schema) => (Array.isArray(schema.type) ? schema.type : schema.type ? [schema.type] : []);

/** Return the type of `schema` in a phrase. */
export function typeInWords(doc, node, depth = 0) {
  if (node === true || node === undefined) return "anything";
  if (node === false) return "nothing";
  const schema = resolved(doc, node);
  if (depth > DEEPEST) return "…";
  const each = (list, word) => {
    const phrases = list.map((one) => typeInWords(doc, one, depth + 1));
    return [...new Set(phrases)].filter((phrase) => phrase !== "anything" || list.length === 1).join(` ${word} `) || "anything";
  };
  if (Object.hasOwn(schema, "const")) return shown(schema.const);
  if (schema.enum) return listed(schema.enum);
  if (schema.anyOf && !schema.properties) return each(schema.anyOf, "or");
  if (schema.oneOf && !schema.properties) return each(schema.oneOf, "or");
  if (schema.allOf && !schema.properties) return each(schema.allOf, "and");
  const types = typesOf(schema).map((type) => {
    if (type === "array") return arrayInWords(doc, schema, depth);
    if (type === "object") return objectInWords(doc, schema, depth);
    return schema.format ? `${type} (${schema.format})` : type;
  });
  if (types.length === 0 && (schema.properties || schema.additionalProperties)) return objectInWords(doc, schema, depth);
  if (types.length === 0 && schema.items) return arrayInWords(doc, schema, depth);
  return types.join(" or ") || "anything";
}

function listed(values) {
  const some = values.slice(0, LONGEST_LIST).map(shown).join(", ");
  return values.length > LONGEST_LIST ? `one of ${some} and ${values.length - LONGEST_LIST} more` : `one of ${some}`;
}

function arrayInWords(doc, schema, depth) {
  if (schema.prefixItems) return `array of [${schema.prefixItems.map((one) => typeInWords(doc, one, depth + 1)).join(", ")}]`;
  const items = typeInWords(doc, schema.items, depth + 1);
  return / (or|and) /.test(items) ? `array of (${items})` : `array of ${items}`;
}

function objectInWords(doc, schema, depth) {
  const others = schema.additionalProperties;
  if (schema.properties || typeof others !== "object") return "object";
  return `object of ${typeInWords(doc, others, depth + 1)} by name`;
}

const LIMITS = [
  ["minimum", (n) => `at least ${n}`],
  ["exclusiveMinimum", (n) => `more than ${n}`],
  ["maximum", (n) => `at most ${n}`],
  ["exclusiveMaximum", (n) => `less than ${n}`],
  ["multipleOf", (n) => `a multiple of ${n}`],
  ["minLength", (n) => `at least ${counted(n, "character")}`],
  ["maxLength", (n) => `at most ${counted(n, "character")}`],
  ["pattern", (text) => (text.length > LONGEST_PATTERN ? "of a form that openapi.json has" : `matches ${text}`)],
  ["minItems", (n) => `at least ${counted(n, "item")}`],
  ["maxItems", (n) => `at most ${counted(n, "item")}`],
  ["uniqueItems", (is) => is && "no item twice"],
  ["minProperties", (n) => `at least ${counted(n, "field")}`],
  ["maxProperties", (n) => `at most ${counted(n, "field")}`],
  ["default", (value) => `default ${shown(value)}`],
];

/** Return the limits of `schema`, those of what it may be included, as phrases. */
export function limitsInWords(doc, node) {
  const schema = resolved(doc, node);
  const own = LIMITS.filter(([name]) => Object.hasOwn(schema, name)).map(([name, say]) => say(schema[name]));
  const within = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  return [...new Set([...own, ...within.flatMap((one) => limitsInWords(doc, one))])].filter(Boolean);
}

/** Return the fields of an object as {name, schema, required}, those of objects within under their path. */
export function fieldsOf(doc, node, path = "", above = []) {
  const schema = resolved(doc, node);
  const known = typeof node?.$ref === "string" ? [...above, node.$ref] : above;
  if (above.includes(node?.$ref) || path.split(/[.[]/).length > DEEPEST) return []; // a tree of itself: shown once
  const required = new Set(schema.required ?? []);
  const own = Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const full = path ? `${path}.${name}` : name;
    return [{ name: full, schema: inner, required: required.has(name) }, ...fieldsOf(doc, inner, full, known)];
  });
  const parts = (schema.allOf ?? []).flatMap((one) => fieldsOf(doc, one, path, known));
  const items = schema.items && typeof schema.items === "object" ? fieldsOf(doc, schema.items, `${path}[]`, known) : [];
  const named = typeof schema.additionalProperties === "object" ? fieldsOf(doc, schema.additionalProperties, `${path}.*`, known) : [];
  const choices = path ? [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((one) => fieldsOf(doc, one, path, known)) : [];
  const once = new Map([...own, ...parts, ...items, ...named, ...choices].map((field) => [field.name, field]));
  return [...once.values()];
}

/** Return the objects that a body may be: those of a oneOf or anyOf at its top, each with its name, or itself. */
export function variantsOf(doc, node) {
  const schema = resolved(doc, node);
  const choices = schema.oneOf ?? schema.anyOf;
  if (!choices || choices.length < 2) return [{ name: null, schema: node }];
  return choices.map((one) => ({ name: resolved(doc, one).title ?? nameOf(one) ?? byFields(doc, one), schema: one }));
}

/** Return what tells an object without a name from others: the fields that it must have, or else its first. */
function byFields(doc, node) {
  const { required, properties } = resolved(doc, node);
  const names = required?.length ? required : Object.keys(properties ?? {}).slice(0, 2);
  return names.length ? `with ${names.join(required?.length ? " and " : " or ")}` : typeInWords(doc, node);
}

const nameOf = (node) => (typeof node?.$ref === "string" ? decodeURIComponent(node.$ref.split("/").at(-1)) : null);

/** Return a value that `schema` allows, where the document gives no example. */
export function sampleOf(doc, node, depth = 0) {
  const schema = resolved(doc, node);
  if (schema.examples?.length) return schema.examples[0];
  for (const name of ["example", "const", "default"]) if (Object.hasOwn(schema, name)) return schema[name];
  if (schema.enum) return schema.enum[0];
  if (depth > DEEPEST) return null;
  const choice = schema.oneOf?.[0] ?? schema.anyOf?.[0];
  if (choice !== undefined) return sampleOf(doc, choice, depth + 1);
  const type = typesOf(schema)[0] ?? (schema.properties || schema.allOf ? "object" : null);
  if (type === "object") {
    const parts = (schema.allOf ?? []).map((one) => sampleOf(doc, one, depth + 1));
    const names = (schema.required ?? []).filter((name) => Object.hasOwn(schema.properties ?? {}, name));
    return Object.assign({}, ...parts, Object.fromEntries(names.map((name) => [name, sampleOf(doc, schema.properties[name], depth + 1)])));
  }
  if (type === "array") return [sampleOf(doc, schema.items, depth + 1)];
  if (type === "integer" || type === "number") return schema.minimum ?? 1;
  return { string: "text", boolean: true }[type] ?? null;
}
