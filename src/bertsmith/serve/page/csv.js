// CSV: reading it as spreadsheets and databases write it, and writing it so that no cell runs as a formula.

export class CsvError extends Error {}

const RUNS = /^[=+\-@\t\r\n＝＋－＠]/;
const NUMBER = /^[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?\s?%?$/;

// Bytes → text: UTF-8, or UTF-16 where the file begins with its mark.
export function decoded(bytes) {
  const begin = new Uint8Array(bytes.slice(0, 2));
  const wide = { "255,254": "utf-16le", "254,255": "utf-16be" }[begin.join()];
  try {
    return new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new CsvError(`The file is not ${wide ? "whole" : "UTF-8"}. Save it as "CSV UTF-8" and choose it again.`);
  }
}

// Text → { delimiter, names, rows }; every row has as many cells as there are names.
export function parsed(text) {
  const delimiter = delimiterOf(text);
  const records = [...recordsOf(text, delimiter)];
  if (!records.length) throw new CsvError("The file is empty.");
  const names = distinct(records[0].cells);
  const rows = records.slice(1).map(({ cells, line }) => {
    if (cells.length !== names.length) throw new CsvError(`Line ${line} has ${counted(cells.length, "cell")}; the header has ${names.length}.`);
    return cells;
  });
  if (!rows.length) throw new CsvError("The file has a header and no rows.");
  return { delimiter, names, rows };
}

export function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// The delimiter that occurs most in the first line, outside quotes; a comma where none does.
function delimiterOf(text) {
  const counts = new Map([[",", 0], [";", 0], ["\t", 0]]);
  let quoted = false;
  for (const letter of text.slice(0, 100_000)) {
    if (letter === '"') quoted = !quoted;
    else if (!quoted && (letter === "\n" || letter === "\r")) break;
    else if (!quoted && counts.has(letter)) counts.set(letter, counts.get(letter) + 1);
  }
  return [...counts].reduce((best, each) => (each[1] > best[1] ? each : best))[0];
}

// Records with the line on which each begins; blank lines are passed over.
function* recordsOf(text, delimiter) {
  const plain = new RegExp(`[${delimiter}\\r\\n]`, "g");
  let place = 0;
  let line = 1;
  while (place < text.length) {
    const cells = [];
    const begin = line;
    let ended = false;
    while (!ended) {
      const cell = text[place] === '"' ? quotedCell(text, place, line) : plainCell(text, place, plain);
      cells.push(cell.value);
      line += cell.lines;
      place = cell.end;
      ended = text[place] !== delimiter;
      if (ended && place < text.length && !"\r\n".includes(text[place])) throw new CsvError(`Line ${line}: characters follow a closing quote.`);
      place += text.startsWith("\r\n", place) ? 2 : 1;
    }
    line += 1;
    if (cells.length > 1 || cells[0] !== "") yield { cells, line: begin };
  }
}

function plainCell(text, place, stops) {
  stops.lastIndex = place;
  const end = stops.exec(text)?.index ?? text.length;
  return { value: text.slice(place, end), end, lines: 0 };
}

function quotedCell(text, place, line) {
  const parts = [];
  let begin = place + 1;
  for (;;) {
    const end = text.indexOf('"', begin);
    if (end < 0) throw new CsvError(`Line ${line}: a quote is opened and never closed.`);
    parts.push(text.slice(begin, end));
    if (text[end + 1] !== '"') {
      const value = parts.join('"');
      return { value, end: end + 1, lines: value.match(/\r\n|\r|\n/g)?.length ?? 0 };
    }
    begin = end + 2;
  }
}

// Columns without a name, or with that of another, get one of their own.
function distinct(names) {
  const seen = new Set();
  return names.map((name, place) => {
    let found = name || `column ${place + 1}`;
    while (seen.has(found)) found += "'";
    seen.add(found);
    return found;
  });
}

// A cell with an apostrophe in front where a spreadsheet would run it; numbers are left as they are.
export function safe(cell) {
  return RUNS.test(cell) && !NUMBER.test(cell) ? `'${cell}` : cell;
}

// One line of a CSV file, with its line end.
export function written(cells, delimiter) {
  const line = cells.map((cell) => {
    const value = safe(cell);
    return /["\r\n,;\t]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  });
  // A line that is empty would be passed over when it is read again.
  return `${line.length === 1 && line[0] === "" ? '""' : line.join(delimiter)}\r\n`;
}
