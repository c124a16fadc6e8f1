// The rows of a file, answered a slice at a time: it waits when the server asks to, and can be gone on with.

import { ask, Problem } from "./ask.js";

const AT_ONCE = 64;
const TRIES = 30;

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const stopped = () => reject(signal.reason);
    if (signal.aborted) stopped();
    signal.addEventListener("abort", stopped, { once: true });
    setTimeout(() => {
      signal.removeEventListener("abort", stopped);
      resolve();
    }, seconds * 1000);
  });

export class Rows {
  // model: one of `GET ui/facts`; texts, pairs (or null): the columns; limits: { most_texts, most_bytes } of the server.
  constructor(model, texts, pairs, limits) {
    this.model = model;
    this.texts = texts;
    this.pairs = pairs;
    this.limits = limits;
    this.answers = []; // an answer a row, or { error } for a row that the server refused
  }

  get done() {
    return this.answers.length;
  }

  get isWhole() {
    return this.done === this.texts.length;
  }

  // Go on until all rows are answered; `told` hears of each slice, and of each wait in seconds.
  async answer({ signal, told }) {
    while (!this.isWhole) {
      const end = this.#end(this.done);
      const found = await this.#slice(this.done, end, { signal, told });
      this.answers.push(...found);
      told({ wait: 0 });
    }
  }

  // Rows that fit one request: their number, and half the bytes that a body may have (JSON escapes some letters).
  #end(begin) {
    const most = Math.min(AT_ONCE, this.limits.most_texts, this.texts.length - begin);
    let bytes = 0;
    for (let place = begin; place < begin + most; place += 1) {
      bytes += 3 * (this.texts[place].length + (this.pairs?.[place].length ?? 0)) + 8;
      if (bytes > this.limits.most_bytes / 2) return Math.max(begin + 1, place);
    }
    return begin + most;
  }

  // Answers of some rows. Where the server refuses them, the halves are asked, so that one bad row costs only itself.
  async #slice(begin, end, how) {
    try {
      return await this.#patient(begin, end, how);
    } catch (error) {
      if (!(error instanceof Problem) || ![400, 413, 422].includes(error.status)) throw error;
      if (end - begin === 1) return [{ error: error.message }];
      const middle = begin + Math.floor((end - begin) / 2);
      return [...(await this.#slice(begin, middle, how)), ...(await this.#slice(middle, end, how))];
    }
  }

  async #patient(begin, end, { signal, told }) {
    const body = { model: this.model.name, texts: this.texts.slice(begin, end) };
    if (this.pairs) body.pairs = this.pairs.slice(begin, end);
    if (this.model.labels.length) body.top_k = 1;
    for (let tries = 1; ; tries += 1) {
      try {
        const { answers } = await ask("classify", { body, signal });
        if (answers.length !== end - begin) throw new Problem(0, "The server sent another number of answers than there were texts.");
        return answers;
      } catch (error) {
        if (!(error instanceof Problem) || ![429, 503].includes(error.status) || tries === TRIES) throw error;
        const wait = Math.max(error.wait, Math.min(0.25 * tries, 5));
        told({ wait });
        await pause(wait, signal);
      }
    }
  }
}

// What the answers are called beside the file's own columns: all get `predicted_` (as often as needed), or none.
export function answerColumns(names, answers) {
  const own = partsOf(answers);
  let prefix = "";
  while (own.some((name) => names.includes(prefix + name))) prefix += "predicted_";
  return { own, titles: own.map((name) => prefix + name) };
}

const FIRST = ["label", "labels", "value", "answer", "guess", "score", "unknown", "out_of_scope", "foreign"];
const HIDDEN = new Set(["scores", "alternatives"]);

// Parts that some answer has: the usual ones first, what is wrong last; `cut` and `foreign` only where they say something.
function partsOf(answers) {
  const found = new Set();
  for (const each of answers) {
    for (const [name, value] of Object.entries(each)) if (value !== null && !HIDDEN.has(name) && !(name === "cut" && !value)) found.add(name);
  }
  if (!found.has("out_of_scope")) found.delete("foreign");
  const last = found.delete("error") ? ["error"] : [];
  const first = FIRST.filter((name) => found.delete(name));
  return [...first, ...found, ...last];
}

export function cellOf(value) {
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
