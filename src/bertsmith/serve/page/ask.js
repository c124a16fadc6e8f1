// Requests to the server, and what went wrong with one, in words.

let key = "";

export class Problem extends Error {
  constructor(status, message, { wait = 0, request = "" } = {}) {
    super(message);
    this.status = status; // 0: there was no answer at all
    this.wait = wait; // seconds that the server asks to wait
    this.request = request;
  }

  get line() {
    return this.request ? `${this.message} (request ${this.request})` : this.message;
  }
}

export function useKey(value) {
  key = value.trim();
}

export function hasKey() {
  return key !== "";
}

export async function ask(path, { body, signal, as = "json" } = {}) {
  const response = await send(path, body, signal);
  if (!response.ok) throw await problemOf(response);
  try {
    return await response[as]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The connection broke before the answer was whole. Ask again.");
  }
}

async function send(path, body, signal) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const method = body === undefined ? "GET" : "POST";
  try {
    return await fetch(path, { method, headers, signal, body: JSON.stringify(body), credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (/[^\x20-\xff]/.test(key)) throw new Problem(401, "The API key has characters that no key has. Copy it again.");
    throw new Problem(0, "The server does not answer. Is it running, and is this computer connected?");
  }
}

async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  const said = [told.detail, told.error, told.title].find((each) => typeof each === "string") ?? "";
  const more = { wait: waitOf(response), request: response.headers.get("X-Request-ID") ?? "" };
  return new Problem(response.status, worded(response.status, said, more.wait), more);
}

function waitOf(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 60) : 0;
}

function worded(status, said, wait) {
  const when = wait ? ` Try again in ${Math.ceil(wait)} s.` : " Try again in a moment.";
  if (status === 401 || status === 403) return said ? `The server wants a valid API key: ${said}` : "The server wants a valid API key.";
  if (status === 429) return `The server has too much to do just now.${when}`;
  if (status === 503) return `The server takes no questions just now${said ? `: ${said.replace(/\.?$/, ".")}` : "."}${when}`;
  if (status === 504) return "The answer took longer than the server allows. Try again, or with a shorter text.";
  if (status >= 500) return `The server failed (${status})${said ? `: ${said}` : "."}`;
  return said ? `The server refused this (${status}): ${said}` : `The server refused this (${status}).`;
}
