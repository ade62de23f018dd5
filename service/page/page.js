// The start of the page: loads /info and connects the three views.

import { call } from "./api.js";
import { cardNodes } from "./card.js";
import { byId, counted, fill } from "./dom.js";
import { offerToForget } from "./key.js";
import * as many from "./many.js";
import { MULTI, model } from "./model.js";
import * as one from "./one.js";
import { moveOptions, onOptionsChange, showDefaults } from "./options.js";
import { problem } from "./problem.js";
import { startTabs } from "./tabs.js";

let loading = false;

async function load() {
  if (loading) return;
  loading = true;
  try {
    model.info = (await call("info", { explicit: true })).data;
    fill(byId("load-problem"));
    describe(model.info);
  } catch (error) {
    fill(byId("load-problem"), problem(error, load));
  }
  loading = false;
}

function describe(info) {
  const number = info.problem_type === MULTI ? "any number of" : "one of";
  document.title = `${info.model} – text classifier`;
  byId("model-name").textContent = info.model;
  byId("model-line").textContent = `Text classifier: ${number} ${counted(info.labels.length, "label")} per text.`;
  showDefaults();
  fill(byId("card"), cardNodes(info));
  many.changed();
  if (byId("text").value.trim()) one.changed(); // an earlier prediction lacks thresholds
}

function keyChanged() {
  one.updateCommand();
  many.updateCommand();
  if (!model.info) load();
}

startTabs(moveOptions);
one.start();
many.start();
onOptionsChange(() => {
  one.changed();
  many.changed();
});
offerToForget(keyChanged);
load();
