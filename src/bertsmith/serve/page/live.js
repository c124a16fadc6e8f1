// Live figures: small JSON of the server, asked for again and again while somebody looks.

import { ask } from "./ask.js";
import { at, make, share } from "./draw.js";

const EVERY_MS = 2000;
const FIGURES = [
  ["Requests", whole, (stats) => stats.requests],
  ["Refused", whole, (stats) => stats.refused],
  ["Failed", whole, (stats) => stats.failed],
  ["Texts answered", whole, (stats) => stats.answers],
  ["Tokens read", whole, (stats) => stats.tokens],
  ["Tokens waiting", whole, (stats) => stats.queue_tokens],
  ["Half of the answers within", milliseconds, (stats) => stats.latency_s?.p50],
  ["99 of 100 answers within", milliseconds, (stats) => stats.latency_s?.p99],
  ["UNKNOWN", share, (_, model) => model.unknown],
  ["Unlike the training data", share, (_, model) => model.foreign],
  ["Moved since training", moved, (_, model) => model.drift],
  ["Running for", duration, (stats) => stats.uptime_s],
];

function whole(value) {
  return Math.round(value).toLocaleString("en");
}

function milliseconds(seconds) {
  const value = 1000 * seconds;
  return value < 10 ? `${value.toFixed(1)} ms` : `${whole(value)} ms`;
}

function moved({ moved: features, rows }) {
  return features.length ? `${features.join(", ")} (${whole(rows)} texts)` : `nothing (${whole(rows)} texts)`;
}

function duration(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

// `chosen` gives the model whose shares are shown.
export function watchFigures(chosen) {
  const panel = at("live");
  let timer = 0;
  const tick = async () => {
    clearTimeout(timer);
    if (!panel.open) return;
    // Nobody looks at a hidden tab.
    if (document.visibilityState === "visible") await show(chosen()?.name);
    timer = setTimeout(tick, EVERY_MS);
  };
  panel.addEventListener("toggle", tick);
}

async function show(name) {
  try {
    const stats = await ask("stats");
    const model = stats.models?.[name] ?? {};
    const known = FIGURES.map(([title, format, of]) => [title, format, of(stats, model)]).filter(([, , value]) => value !== undefined && value !== null);
    at("figures").replaceChildren(...known.flatMap(([title, format, value]) => [make("dt", {}, title), make("dd", {}, format(value))]));
    at("figures-note").textContent = "Since the server began; asked for every two seconds.";
  } catch (error) {
    at("figures").replaceChildren();
    at("figures-note").textContent = error.status === 404 ? "This server gives no figures." : (error.line ?? String(error));
  }
}
