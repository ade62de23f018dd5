// The page to try the model with: what is known of the model, and its three parts.

import { call } from "./api.js";
import { cardNodes } from "./card.js";
import { byId, counted, fill } from "./dom.js";
import { offerToForget } from "./key.js";
import * as many from "./many.js";
import { MULTI, model } from "./model.js";
import * as one from "./one.js";
import { describeOptions, moveOptions, onOptions } from "./options.js";
import { problem } from "./problem.js";
import { startTabs } from "./tabs.js";

let loading = false;

async function load() {
  if (loading) return;
  loading = true;
  try {
    model.info = (await call("info", { insistent: true })).data;
    fill(byId("load-problem"));
    describe(model.info);
  } catch (error) {
    fill(byId("load-problem"), problem(error, load));
  }
  loading = false;
}

function describe(info) {
  const kind = info.problem_type === MULTI ? "any number of" : "one of";
  document.title = `${info.model} – text classifier`;
  byId("model-name").textContent = info.model;
  byId("model-line").textContent = `Text classifier: names ${kind} ${counted(info.labels.length, "label")}.`;
  describeOptions();
  fill(byId("card"), cardNodes(info));
  many.changed();
  if (byId("text").value.trim()) one.changed(); // its answer was shown without thresholds
}

function keyChanged() {
  one.updateCommand();
  many.updateCommand();
  if (!model.info) load();
}

startTabs(moveOptions);
one.start();
many.start();
onOptions(() => {
  one.changed();
  many.changed();
});
offerToForget(keyChanged);
load();
