// The page: binds the editor to the gateway, and shows what a suggestion took and cost.
import { Editor } from "./editor.js";
import { Refusal, readiness, report, stream } from "./completions.js";

const SAMPLE = `class Point:
    """A point of the plane."""

    def __init__(self, x, y):
        self.x = x
`;
const READY_EVERY_MS = 10_000;

const find = (id) => document.getElementById(id);
const settings = find("settings").elements;
const session = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
const totals = { shown: 0, accepted: 0, tokens: 0, cost: 0, isPriced: false };
let key = sessionStorage.getItem("key") ?? "";
let current; // the suggestion that is asked for or shown: {id, controller, isShown}
let timer;

const editor = new Editor(find("code"), find("shown"), find("spoken"), {
  typed: () => {
    drop();
    if (settings.automatic.checked) timer = setTimeout(ask, Number(settings.pause_ms.value));
  },
  asked: () => { drop(); ask(); },
  accepted: (text, rest) => {
    if (!rest) current?.controller.abort(); // what would still come doesn't belong here
    if (!current?.isAccepted) tell("accepted", text.length);
    if (current) current.isAccepted = true;
  },
  dismissed: () => { if (!current?.isAccepted) tell("dismissed"); drop(); },
});

/** Give up what was asked for. */
function drop() {
  clearTimeout(timer);
  current?.controller.abort();
  current = undefined;
}

/** Ask for a suggestion at the cursor, and show it as it comes. */
async function ask() {
  if (!editor.before || editor.hasSelection) return;
  const mine = current = { controller: new AbortController(), isShown: false };
  const clock = { begun: performance.now() };
  let text = "";
  try {
    for await (const piece of stream(key, wish(), mine.controller.signal)) {
      if (current !== mine) return;
      mine.id = piece.id;
      text += piece.text;
      if (piece.text) {
        clock.first ??= performance.now();
        if (!mine.isAccepted) editor.suggest(text);
        if (!mine.isShown) { mine.isShown = true; tell("shown", text.length); }
      }
      if (piece.usage) showFigures(clock, piece);
    }
    find("banner").hidden = true;
    if (!mine.isAccepted) editor.speak();
  } catch (error) {
    if (error.name !== "AbortError") showError(error);
  }
}

/** The request for a suggestion at the cursor. */
function wish() {
  const suffix = settings.infill.checked && editor.after.trim() ? editor.after : undefined;
  return {
    prompt: editor.before, suffix, session,
    max_tokens: Number(settings.max_tokens.value),
    temperature: Number(settings.temperature.value),
    stop_at: settings.stop_at.value, truncate: "left", token_healing: true,
  };
}

/** Tell the gateway, and the page, what became of the suggestion. */
function tell(kind, chars) {
  if (!current?.id || !current.isShown) return;
  report(key, current.id, kind, chars);
  if (kind in totals) find(`num-${kind}`).textContent = ++totals[kind];
}

function showFigures(clock, { usage, version }) {
  const total = performance.now() - clock.begun;
  const writing = performance.now() - (clock.first ?? clock.begun);
  find("ttft").textContent = clock.first ? milliseconds(clock.first - clock.begun) : "–";
  find("total").textContent = milliseconds(total);
  find("tokens").textContent = `${usage.prompt_tokens} + ${usage.completion_tokens}`;
  const rate = usage.completion_tokens > 1 && writing > 0
    ? (usage.completion_tokens - 1) / writing * 1000 : undefined;
  find("speed").textContent = rate ? `${rate.toFixed(0)} tokens/s` : "–";
  find("served").textContent = version ?? "–";
  totals.tokens += usage.prompt_tokens + usage.completion_tokens;
  find("num-tokens").textContent = totals.tokens;
  if (usage.cost !== undefined) {
    totals.cost += usage.cost;
    find("cost").textContent = `$${totals.cost.toFixed(6)}`;
  }
}

function milliseconds(value) { return `${value.toFixed(0)} ms`; }

function showError(error) {
  if (error instanceof Refusal && error.status === 409) return; // a newer request took its place
  const again = error.retryAfterS ? ` Again in ${Math.ceil(error.retryAfterS)} s.` : "";
  find("banner-text").textContent = `${error.message}${again}`;
  find("banner").hidden = false;
  if (error.status === 401) find("key").focus();
}

async function showReadiness() { find("state").textContent = await readiness(); }

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  find("theme").setAttribute("aria-pressed", String(theme === "dark"));
  localStorage.setItem("theme", theme);
}

find("key").value = key;
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  sessionStorage.setItem("key", key); // for this tab alone, and gone with it
  find("banner").hidden = true;
  find("code").focus();
});
find("banner-close").addEventListener("click", () => {
  find("banner").hidden = true;
  find("code").focus();
});
find("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
setTheme(localStorage.getItem("theme") ?? (prefersDark ? "dark" : "light"));
find("code").value = SAMPLE;
editor.suggest("");
find("code").focus();
find("code").setSelectionRange(SAMPLE.length, SAMPLE.length);
showReadiness();
setInterval(showReadiness, READY_EVERY_MS);
