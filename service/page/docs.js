// Swagger UI on openapi.json. The page asks for a missing key once; "Try it out" sends the same key.

import { call } from "./api.js";
import { byId, fill } from "./dom.js";
import { currentKey } from "./key.js";
import { problem } from "./problem.js";

async function load() {
  try {
    const { data } = await call("openapi.json", { explicit: true });
    fill(byId("problem"));
    show(data);
  } catch (error) {
    fill(byId("problem"), problem(error, load));
  }
}

function show(spec) {
  document.title = spec.info.title;
  // A proxy may serve this page under a path: requests go where the page came from.
  spec.servers ??= [{ url: new URL(".", document.baseURI).href.replace(/\/$/, "") }];
  const ui = SwaggerUIBundle({
    spec,
    domNode: byId("swagger-ui"),
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null, // no request to another host
    onComplete: authorize,
  });

  function authorize() {
    const schemes = Object.entries(spec.components?.securitySchemes ?? {});
    const name = schemes.find(([, { type }]) => type === "apiKey")?.[0];
    if (name && currentKey()) ui.preauthorizeApiKey(name, currentKey());
  }
}

load();
