// A file of texts: chosen or dropped, answered a slice at a time, saved with its answers.

import { counted, CsvError, decoded, parsed, written } from "./csv.js";
import { at, make, save, tell } from "./draw.js";
import { answerColumns, cellOf, Rows } from "./rows.js";

const MOST_BYTES = 200 * 1024 * 1024;
const PREVIEW = 5;
const SPOKEN_MS = 5000; // how often a screen reader hears how far it is

export class FilePanel {
  #server;
  #table = null;
  #name = "";
  #rows = null;
  #running = null;
  #spoken = 0;

  constructor(server) {
    this.#server = server;
    at("csv").addEventListener("change", () => this.#choose(at("csv").files[0]));
    at("columns").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    at("columns").addEventListener("change", () => this.#forget());
    at("stop").addEventListener("click", () => this.#running?.abort());
    at("download").addEventListener("click", () => this.#save());
    this.#takeDrops();
  }

  modelChanged(model) {
    this.#running?.abort();
    this.#forget();
    at("pair-column-row").hidden = !model.pair;
    if (this.#table) this.#guessColumns(model);
  }

  #takeDrops() {
    const over = (is) => at("drop").classList.toggle("over", is);
    // A file that misses the field would be opened in place of the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
    at("drop").addEventListener("dragover", () => over(true));
    at("drop").addEventListener("dragleave", () => over(false));
    at("drop").addEventListener("drop", (event) => {
      over(false);
      if (event.dataTransfer.files.length > 1) return tell("csv-problem", "Drop one file at a time.");
      if (event.dataTransfer.files.length) this.#choose(event.dataTransfer.files[0]);
    });
  }

  async #choose(file) {
    if (!file) return;
    this.#running?.abort();
    this.#table = null;
    this.#forget();
    at("columns").hidden = true;
    try {
      if (file.size > MOST_BYTES) throw new CsvError("The file has more than 200 MB. Answer it where the model is: bertsmith predict RUN --in FILE --out FILE.");
      this.#table = parsed(decoded(await file.arrayBuffer()));
      this.#name = file.name;
    } catch (error) {
      return tell("csv-problem", error instanceof CsvError ? `${file.name}: ${error.message}` : `${file.name}: cannot be read. ${error.message}`);
    }
    this.#showColumns();
  }

  #showColumns() {
    const { names, rows } = this.#table;
    at("csv-about").textContent = `${this.#name}: ${counted(rows.length, "row")}, ${counted(names.length, "column")}.`;
    for (const id of ["column", "pair-column"]) {
      at(id).replaceChildren(...names.map((name, place) => make("option", { value: String(place) }, name)));
    }
    at("columns").hidden = false;
    const model = this.#server.model();
    if (model) this.#guessColumns(model);
  }

  // The columns of the training data, where the file has them; else "text"; else the column with the most letters.
  #guessColumns(model) {
    const { names, rows } = this.#table;
    const letters = names.map((_, place) => rows.slice(0, 100).reduce((sum, row) => sum + row[place].length, 0));
    const longest = names.map((_, place) => place).sort((one, other) => letters[other] - letters[one]);
    const find = (...wanted) => wanted.map((name) => names.indexOf(name)).find((place) => place >= 0);
    const first = find(model.columns.text, "text") ?? longest[0];
    at("column").value = String(first);
    at("pair-column").value = String(find(model.columns.text_pair, "text_pair") ?? longest.find((place) => place !== first) ?? 0);
  }

  // Answers that were given belong to other columns, another file or another model.
  #forget() {
    this.#rows = null;
    tell("csv-problem", "");
    at("csv-said").textContent = "";
    at("csv-done").hidden = true;
    at("progress-row").hidden = true;
    at("go").textContent = "Answer the rows";
  }

  #begun() {
    const model = this.#server.model();
    const texts = this.#table.rows.map((row) => row[Number(at("column").value)]);
    const pairs = model.pair ? this.#table.rows.map((row) => row[Number(at("pair-column").value)]) : null;
    return new Rows(model, texts, pairs, this.#server.facts());
  }

  async #go() {
    if (this.#running || !this.#server.model()) return;
    const rows = (this.#rows ??= this.#begun());
    const mine = (this.#running = new AbortController());
    this.#busy(true);
    tell("csv-problem", "");
    at("csv-said").textContent = "";
    this.#told({ wait: 0 });
    try {
      await rows.answer({ signal: mine.signal, told: (state) => this.#rows === rows && this.#told(state) });
      if (this.#rows === rows) this.#finished();
    } catch (error) {
      if (this.#rows === rows) this.#stopped(error);
    } finally {
      this.#running = null;
      this.#busy(false);
    }
  }

  #busy(is) {
    for (const id of ["go", "column", "pair-column"]) at(id).disabled = is;
    at("stop").hidden = !is;
  }

  #told({ wait }) {
    const { done, texts } = this.#rows;
    at("progress-row").hidden = false;
    at("progress").value = done / texts.length;
    const line = `${done.toLocaleString("en")} of ${texts.length.toLocaleString("en")}${wait ? `; the server is busy, waiting ${Math.ceil(wait)} s` : ""}`;
    at("count").textContent = line;
    if (performance.now() - this.#spoken < SPOKEN_MS || this.#rows.isWhole) return;
    this.#spoken = performance.now();
    at("csv-said").textContent = `Answered: ${line}`;
  }

  #stopped(error) {
    at("csv-said").textContent = this.#rows.done ? "The rows that have answers can be saved; the others stay empty." : "";
    at("go").textContent = "Go on";
    if (error.name === "AbortError") at("csv-said").textContent = `Stopped. ${at("csv-said").textContent}`;
    else if (!this.#server.keyWanted(error)) tell("csv-problem", error);
    if (this.#rows.done) this.#showAnswers();
  }

  #finished() {
    const { answers } = this.#rows;
    const count = (is) => answers.filter(is).length;
    const parts = [`${counted(answers.length, "row")} answered`];
    const unknown = count((each) => each.unknown);
    const refused = count((each) => "error" in each);
    if (unknown) parts.push(`${unknown.toLocaleString("en")} of them UNKNOWN`);
    const { titles } = answerColumns(this.#table.names, answers);
    if (refused) parts.push(`${refused.toLocaleString("en")} refused by the server: the column "${titles.at(-1)}" says why`);
    at("csv-said").textContent = `${parts.join("; ")}.`;
    this.#showAnswers();
    at("download").focus();
  }

  #showAnswers() {
    const { rows } = this.#table;
    const { own, titles } = answerColumns(this.#table.names, this.#rows.answers);
    const column = Number(at("column").value);
    const head = make("tr", {}, ...[this.#table.names[column], ...titles].map((name) => make("th", { scope: "col" }, name)));
    const lines = this.#rows.answers.slice(0, PREVIEW).map((answer, place) =>
      make("tr", {}, ...[rows[place][column].slice(0, 200), ...own.map((name) => shown(answer[name]))].map((cell) => make("td", { dir: "auto" }, cell))),
    );
    at("first").replaceChildren(make("caption", {}, "The first answers"), make("thead", {}, head), make("tbody", {}, ...lines));
    at("csv-done").hidden = false;
  }

  #save() {
    const { names, rows, delimiter } = this.#table;
    const { own, titles } = answerColumns(names, this.#rows.answers);
    // The mark in front tells spreadsheets that this is UTF-8.
    const lines = ["\ufeff", written([...names, ...titles], delimiter)];
    rows.forEach((row, place) => {
      const answer = this.#rows.answers[place] ?? {};
      lines.push(written([...row, ...own.map((name) => cellOf(answer[name]))], delimiter));
    });
    const ending = delimiter === "\t" ? "tsv" : "csv";
    save(new Blob(lines, { type: "text/csv;charset=utf-8" }), `${this.#name.replace(/\.[^.]*$/, "")}-answers.${ending}`);
  }
}

function shown(value) {
  const cell = typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : cellOf(value);
  return cell.length > 200 ? `${cell.slice(0, 200)}…` : cell;
}
