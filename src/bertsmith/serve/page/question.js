// One text: its answer, the words that speak for it, and what somebody says of it.

import { ask } from "./ask.js";
import { at, details, explained, headline, make, tell } from "./draw.js";
import { feedbackOn } from "./feedback.js";

export class Question {
  #server;
  #underway = null;
  #model = null;

  constructor(server) {
    this.#server = server;
    at("question").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#answer();
    });
    at("question").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      at("question").requestSubmit();
    });
  }

  modelChanged(model) {
    const asks = model.task === "question-answering";
    at("pair-row").hidden = !model.pair;
    at("pair").required = model.pair;
    at("text-label").textContent = asks ? "Question" : model.pair ? "First text" : "Text";
    at("pair-label").textContent = asks ? "Text that holds the answer" : "Second text";
    // Who asked before the first model was known still waits for an answer of it.
    if (this.#model) this.#underway?.abort();
    this.#model = model;
    this.#clear();
  }

  #clear() {
    at("said").replaceChildren();
    at("answer").hidden = true;
    at("answer").replaceChildren();
    tell("problem", "");
  }

  async #answer() {
    this.#underway?.abort();
    const mine = (this.#underway = new AbortController());
    this.#busy(true);
    try {
      const model = await this.#server.started();
      if (model) await this.#ask(model, mine.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.#failed(error);
    } finally {
      if (this.#underway === mine) this.#busy(false);
    }
  }

  #busy(is) {
    at("question").setAttribute("aria-busy", String(is));
    at("submit").textContent = is ? "Answering …" : "Answer";
    if (is) tell("problem", "");
  }

  async #ask(model, signal) {
    const texts = model.pair ? [at("text").value, at("pair").value] : [at("text").value];
    const { answers } = await ask("classify", { body: requestOf(model, texts), signal });
    this.#show(model, texts, answers[0]);
  }

  #failed(error) {
    this.#clear();
    if (!this.#server.keyWanted(error)) tell("problem", error);
  }

  #show(model, texts, answer) {
    at("said").replaceChildren(...headline(answer));
    const below = details(answer, texts);
    if (model.explains) below.push(this.#why(model, texts));
    if (this.#server.facts().feedback && "label" in answer) below.push(feedbackOn(model, texts, answer, this.#server));
    at("answer").replaceChildren(...below);
    at("answer").hidden = !below.length;
  }

  // A button that asks for the words: marking them costs one more answer a word, so nobody pays for it unasked.
  #why(model, texts) {
    const button = make("button", { type: "button" }, "Which words?");
    const place = make("div", { role: "status" });
    button.addEventListener("click", async () => {
      button.disabled = true;
      place.textContent = "Leaving out one word after the other …";
      try {
        const { answers } = await ask("classify", { body: { ...requestOf(model, texts), explain: true } });
        place.removeAttribute("role"); // a screen reader need not read the whole text aloud
        place.replaceChildren(...explained(answers[0], texts));
        button.remove();
      } catch (error) {
        button.disabled = false;
        place.textContent = this.#server.keyWanted(error) ? "" : error.line;
      }
    });
    return make("div", { class: "why" }, button, place);
  }
}

function requestOf(model, texts) {
  const body = { model: model.name, texts: [texts[0]] };
  return texts.length > 1 ? { ...body, pairs: [texts[1]] } : body;
}
