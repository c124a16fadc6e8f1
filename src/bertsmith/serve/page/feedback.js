// "That is wrong": what somebody says of an answer, where the server keeps it.

import { ask } from "./ask.js";
import { make } from "./draw.js";

export function feedbackOn(model, texts, answer, server) {
  const said = make("p", { role: "status", class: "note" });
  const right = make("button", { type: "button" }, "That is right");
  const wrong = make("button", { type: "button", "aria-expanded": "false" }, "That is wrong");
  const buttons = make("div", { class: "row" }, right, wrong);
  const send = async (more) => {
    said.textContent = "Sending …";
    const body = { model: model.name, text: texts[0], answer: told(answer), ...more };
    if (texts.length > 1) body.text_pair = texts[1];
    try {
      await ask("feedback", { body });
      form.remove();
      buttons.remove();
      said.textContent = "Kept. Thank you.";
    } catch (error) {
      said.textContent = server.keyWanted(error) ? "" : `Not kept. ${error.line ?? error}`;
    }
  };
  const form = correction(model, send);
  right.addEventListener("click", () => send({ right: true }));
  right.hidden = answer.unknown; // that the model declined is neither right nor a label to learn
  wrong.addEventListener("click", () => {
    form.hidden = !form.hidden;
    wrong.setAttribute("aria-expanded", String(!form.hidden));
    if (!form.hidden) form.querySelector("select").focus();
  });
  return make("section", { "aria-label": "Feedback" }, buttons, form, said);
}

function told({ label, guess, score, unknown }) {
  return { label, guess, score, unknown };
}

function correction(model, send) {
  const options = model.labels.map((label) => make("option", { value: label }, label));
  const select = make("select", { id: "correction" }, make("option", { value: "" }, "I cannot say"), ...options);
  const comment = make("textarea", { id: "comment", rows: "2", maxlength: "2000" });
  const form = make(
    "form",
    { class: "wrong" },
    make("label", { for: "correction" }, "What is right?"),
    select,
    make("label", { for: "comment" }, "Comment (may be left out)"),
    comment,
    make("div", { class: "row" }, make("button", { type: "submit", class: "main" }, "Send"), make("span", { class: "note" }, "The text is stored with it.")),
  );
  form.hidden = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // The first choice has no label; a label may well be the empty string's neighbour, so the place decides.
    const chosen = select.selectedIndex > 0 ? { correction: select.value } : {};
    send({ ...chosen, ...(comment.value.trim() ? { comment: comment.value } : {}) });
  });
  return form;
}
