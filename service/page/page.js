// The start of the page: loads /info and connects the three views.

import { call } from "./api.js";
import { cardNodes } from "./card.js";
import { byId, counted, fill } from "./dom.js";
import { offerToForget } from "./key.js";
import * as many from "./many.js";
import { MULTI, REGRESSION, isRanker, model } from "./model.js";
import * as one from "./one.js";
import * as rank from "./rank.js";
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
  const what = info.text_pair ? "pair of texts" : "text";
  document.title = `${info.model} – text classifier`;
  byId("model-name").textContent = info.model;
  byId("model-line").textContent =
    info.problem_type === REGRESSION
      ? `Gives a ${what} a number.`
      : `Text classifier: ${number} ${counted(info.labels.length, "label")} per ${what}.`;
  byId("pair").hidden = !info.text_pair;
  if (info.text_pair) document.querySelector('label[for="text"]').textContent = "The first text";
  if (info.text_pair) document.querySelector('label[for="lines"]').textContent = "Pairs, one per line, a tab between the texts";
  byId("tab-rank").hidden = !isRanker(info);
  showDefaults();
  fill(byId("card"), cardNodes(info));
  many.changed();
  if (byId("text").value.trim()) one.changed(); // an earlier prediction lacks thresholds
}

function keyChanged() {
  one.updateCommand();
  many.updateCommand();
  rank.updateCommand();
  if (!model.info) load();
}

startTabs(moveOptions);
one.start();
many.start();
rank.start();
onOptionsChange(() => {
  one.changed();
  many.changed();
  rank.updateCommand();
});
offerToForget(keyChanged);
load();
