// The page as a whole: the models there are, the key that the server may want, the report and the card.

import { ask, hasKey, Problem, useKey } from "./ask.js";
import { at, make, markdown, quoted, save, tell } from "./draw.js";
import { FilePanel } from "./file.js";
import { watchFigures } from "./live.js";
import { Question } from "./question.js";

let facts = null;
let starting = null;
const server = { facts: () => facts, model: chosen, started, keyWanted };
const question = new Question(server);
const panel = new FilePanel(server);

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  starting = start();
});
at("model").addEventListener("change", showModel);
at("card").addEventListener("click", toggleCard);
at("report").addEventListener("click", openReport);
at("again").addEventListener("click", () => (starting = start()));
watchFigures(chosen);
starting = start();

// Who asks at once waits until the server has said what it serves; the model, or null where it has not.
async function started() {
  await starting;
  return chosen();
}

async function start() {
  tell("start-problem", "");
  at("again").hidden = true;
  try {
    facts = await ask("ui/facts");
  } catch (error) {
    if (isForKey(error)) return keyWanted(error);
    at("again").hidden = false;
    return tell("start-problem", error);
  }
  const hadForm = !at("key-form").hidden;
  at("key-form").hidden = true;
  at("key").value = "";
  showModels();
  if (hadForm) at("text").focus();
}

function showModels() {
  const before = at("model").value;
  at("model").replaceChildren(...facts.models.map((each) => make("option", { value: each.name }, each.name)));
  if (facts.models.some((each) => each.name === before)) at("model").value = before;
  at("model-row").hidden = facts.models.length < 2;
  showModel();
}

function isForKey(error) {
  return error instanceof Problem && (error.status === 401 || error.status === 403);
}

// Ask for a key. That none was given yet is no fault; that one does not fit, or fits no longer, is said.
function keyWanted(error) {
  if (!isForKey(error)) return false;
  if (hasKey()) tell("start-problem", error);
  useKey("");
  at("key-form").hidden = false;
  at("key").value = "";
  at("key").focus();
  return true;
}

function chosen() {
  return facts?.models.find((each) => each.name === at("model").value) ?? facts?.models[0] ?? null;
}

function showModel() {
  const model = chosen();
  const labels = model.labels.length > 1 && model.task !== "question-answering" ? `, ${model.labels.length} labels` : "";
  at("about").replaceChildren("Model ", quoted(model.name), `: ${model.task}${labels}; engine ${model.engine}`);
  at("papers").hidden = !(model.report || model.card);
  at("report").hidden = !model.report;
  at("report").href = `models/${encodeURIComponent(model.name)}/report`;
  at("card").hidden = !model.card;
  at("card").setAttribute("aria-expanded", "false");
  at("card-text").hidden = true;
  question.modelChanged(model);
  panel.modelChanged(model);
}

async function toggleCard() {
  const isOpen = at("card").getAttribute("aria-expanded") === "true";
  at("card").setAttribute("aria-expanded", String(!isOpen));
  at("card-text").hidden = isOpen;
  if (isOpen) return;
  try {
    const card = await ask(`models/${encodeURIComponent(chosen().name)}/card`, { as: "text" });
    at("card-text").replaceChildren(...markdown(card));
  } catch (error) {
    at("card-text").textContent = error.line ?? String(error);
  }
}

// A link carries no key: where the server wants one, the report is fetched with it and saved as a file.
async function openReport(event) {
  if (!hasKey()) return;
  event.preventDefault();
  try {
    save(await ask(at("report").getAttribute("href"), { as: "blob" }), `${chosen().name}-report.html`);
  } catch (error) {
    tell("start-problem", error);
  }
}
