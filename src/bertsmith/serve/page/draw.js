// Answers as elements. Every text goes in as text: nothing here makes markup of a string.

const SHOWN = 5;
const STEPS = 3;
const FAINT = 0.08; // words with less of the greatest weight are not marked, as in the report

export const at = (id) => document.getElementById(id);

// Say what went wrong, in its place; "" takes it away again.
export function tell(id, problem) {
  at(id).textContent = problem.line ?? problem.message ?? problem;
  at(id).hidden = !at(id).textContent;
}

// Save bytes as a file of the person's.
export function save(blob, name) {
  const link = make("a", { download: name });
  link.href = URL.createObjectURL(blob);
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// What a user or a label says, isolated so that right-to-left letters do not reorder what stands around it.
export function quoted(text) {
  return make("bdi", {}, text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd"));
}

// A label; one that is long breaks after an underscore or a stroke rather than in a word.
function named(label) {
  const shown = quoted(label);
  const parts = shown.textContent.split(/(?<=[_/.-])(?=[^_/.-])/);
  shown.replaceChildren(...parts.flatMap((part, place) => (place ? [make("wbr"), part] : [part])));
  return shown;
}

export function share(value) {
  if (value > 0.999 && value < 1) return "> 99.9 %";
  if (value < 0.001 && value > 0) return "< 0.1 %";
  return `${(100 * value).toFixed(1)} %`;
}

// The same, never broken over two lines.
function chance(value) {
  return make("span", { class: "n" }, share(value));
}

// The answer in one line, as a screen reader is told it.
export function headline(answer) {
  if ("label" in answer) return single(answer);
  if ("labels" in answer) return answer.labels.length ? listed(answer.labels) : [make("strong", { class: "unknown" }, "UNKNOWN"), " No label is probable enough."];
  if ("value" in answer) return [make("strong", {}, number(answer.value))];
  if ("spans" in answer) return [make("strong", {}, answer.spans.length ? `${answer.spans.length} found` : "Nothing found")];
  if ("answer" in answer) return answer.unknown ? [make("strong", { class: "unknown" }, "UNKNOWN"), " The text holds no answer."] : [make("strong", {}, quoted(answer.answer)), " ", chance(answer.score)];
  return [make("code", {}, JSON.stringify(answer))];
}

function single(answer) {
  if (!answer.unknown) return [make("strong", {}, named(answer.label)), " ", chance(answer.score)];
  const why = answer.foreign ? "The text is unlike what the model learned from." : "No label is probable enough.";
  return [make("strong", { class: "unknown" }, "UNKNOWN"), ` ${why} The best guess is `, make("em", {}, named(answer.guess)), " with ", chance(answer.score), "."];
}

function listed(labels) {
  return labels.flatMap((label, place) => [place ? ", " : "", make("strong", {}, named(label))]);
}

function number(value) {
  return Number(value.toPrecision(4)).toString();
}

// All that is known about an answer, below its headline.
export function details(answer, texts) {
  const found = [];
  if (answer.foreign && !answer.unknown) found.push(make("p", { class: "note" }, "The text is unlike what the model learned from; trust the answer less."));
  if (answer.cut > 0) found.push(make("p", { class: "note" }, `The text is too long for the model: ${answer.cut} token${answer.cut === 1 ? " was" : "s were"} not read.`));
  const scores = ranked(answer.scores);
  if (scores.length && !("spans" in answer)) found.push(...bars(scores, answer));
  if (answer.spans?.length) found.push(spans(answer.spans, texts[0]));
  if (typeof answer.start === "number") found.push(marked(texts[1] ?? texts[0], [{ start: answer.start, end: answer.end, kind: "for-2" }]));
  if (typeof answer.out_of_scope === "number") found.push(make("p", { class: "note" }, `Out-of-scope score: ${number(answer.out_of_scope)}`));
  return found;
}

function ranked(scores) {
  const pairs = Array.isArray(scores) ? scores.map((each) => [each.label, each.score]) : Object.entries(scores ?? {});
  return pairs.filter(([, value]) => typeof value === "number").sort((one, other) => other[1] - one[1]);
}

function bars(scores, answer) {
  const chosen = new Set(answer.unknown ? [] : answer.labels ?? [answer.label]);
  const list = make("ol", { class: "bars", "aria-label": "Probabilities" });
  const show = (some) => list.append(...some.map(([label, value]) => bar(label, value, chosen.has(label))));
  show(scores.slice(0, SHOWN));
  if (scores.length <= SHOWN) return [list];
  const more = make("button", { type: "button", class: "link" }, `Show all ${scores.length} labels`);
  more.addEventListener("click", () => {
    const first = list.children.length;
    show(scores.slice(SHOWN));
    list.children[first].tabIndex = -1;
    list.children[first].focus();
    more.remove();
  });
  return [list, more];
}

function bar(label, value, isChosen) {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
  const name = make("span", { class: "name" }, named(label));
  return make("li", isChosen ? { class: "chosen" } : {}, name, make("span", { class: "track", "aria-hidden": "true" }, fill), make("span", { class: "n" }, share(value)));
}

function spans(found, text) {
  const list = make("ul", { class: "spans" }, ...found.map((each) => make("li", {}, make("strong", {}, quoted(each.label)), " ", quoted(each.text), ` ${share(each.score)}`)));
  return make("div", {}, marked(text, found.map((each) => ({ ...each, kind: "for-2" }))), list);
}

// The words that speak for and against a label: `words` as POST /classify gives them.
export function explained(answer, texts) {
  const { words = [], explained: label = answer.words?.explained ?? answer.guess } = Array.isArray(answer.words) ? answer : answer.words;
  const greatest = Math.max(0, ...words.map((each) => Math.abs(each.weight)));
  const pieces = words.map((each) => ({ ...each, kind: kindOf(each, greatest) }));
  const found = texts.map((text, part) => marked(text, pieces.filter((each) => each.part === part)));
  const top = words.filter((each) => each.read !== false).sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight)).slice(0, 10);
  const rows = top.map((each) => make("li", {}, quoted(each.word ?? ""), " ", make("span", { class: "n" }, signed(each.weight))));
  const cut = words.some((each) => each.read === false) ? "; what is struck out was not read" : "";
  const legend = `Blue words speak for the label, orange underlined ones against it, the stronger the fuller${cut}.`;
  const about = make("p", { class: "note" }, "Why ", make("strong", {}, quoted(String(label ?? ""))), "? ", legend);
  const weights = make("details", {}, make("summary", {}, "Weights of the words, in log odds"), make("ol", { class: "weights" }, ...rows));
  return [about, ...found, weights];
}

function signed(weight) {
  return `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
}

function kindOf(word, greatest) {
  if (word.read === false) return "unread";
  const part = greatest > 0 ? Math.abs(word.weight) / greatest : 0;
  if (part < FAINT) return "";
  return `${word.weight > 0 ? "for" : "against"}-${Math.min(STEPS, Math.ceil(part * STEPS))}`;
}

// A text with some of its characters marked. The server counts whole characters; JavaScript would count halves of some.
function marked(text, pieces) {
  const letters = Array.from(text);
  const shown = make("p", { class: "marked", dir: "auto" });
  let place = 0;
  for (const { start, end, kind, label } of [...pieces].sort((one, other) => one.start - other.start)) {
    if (start < place || !kind) continue;
    const tag = kind === "unread" ? "s" : "mark";
    shown.append(letters.slice(place, start).join(""), make(tag, { class: kind, ...(label ? { title: label } : {}) }, letters.slice(start, end).join("")));
    place = end;
  }
  shown.append(letters.slice(place).join(""));
  return shown;
}

// Markdown as model cards have it: headings, lists, tables, code between fences and in lines. All else is a paragraph.
export function markdown(text) {
  // The front matter is for the Hub, not for people.
  const body = text.replace(/\r\n/g, "\n").replace(/^---\n[\s\S]*?\n---\n/, "");
  const blocks = body.match(/^```[\s\S]*?^```$|^#.*$|(?:^(?!```|#).+\n?)+/gm) ?? [];
  return blocks.map((block) => blockOf(block.trimEnd()));
}

function blockOf(block) {
  const lines = block.split("\n");
  if (block.startsWith("```")) return make("pre", {}, make("code", {}, lines.slice(1, -1).join("\n")));
  if (block.startsWith("#")) return make(block.startsWith("##") ? "h3" : "h2", {}, ...inline(block.replace(/^#+\s*/, "")));
  if (lines.every((line) => line.startsWith("- "))) return make("ul", {}, ...lines.map((line) => make("li", {}, ...inline(line.slice(2)))));
  if (/^\|[-:| ]+\|$/.test(lines[1] ?? "")) return make("table", {}, make("thead", {}, lineOf(lines[0], "th")), make("tbody", {}, ...lines.slice(2).map((line) => lineOf(line, "td"))));
  return make("p", {}, ...inline(lines.join(" ")));
}

function lineOf(line, tag) {
  const cells = line.replace(/^\||\|$/g, "").split(/(?<!\\)\|/);
  return make("tr", {}, ...cells.map((cell) => make(tag, tag === "th" ? { scope: "col" } : {}, ...inline(cell.trim().replaceAll("\\|", "|")))));
}

function inline(text) {
  return text.split(/(`[^`]+`)/).map((part) => (/^`[^`]+`$/.test(part) ? make("code", {}, part.slice(1, -1)) : part));
}
