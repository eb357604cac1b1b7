// The page: binds the editor to the gateway, and shows what goes wrong.
import { checkKey, readiness, report, stream } from "./completions.js";
import { Editor } from "./editor.js";
import { Figures } from "./figures.js";

const SAMPLE = [`def read_lines(path):
    """Return the lines of a file."""
    with`, `


def main():
    print(read_lines("notes.txt"))
`];
const READY_EVERY_MS = 10_000;

const find = (id) => document.getElementById(id);
const settings = find("settings").elements;
const session = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
const figures = new Figures();
let key = sessionStorage.getItem("apiKey") ?? "";
let current; // the suggestion that is asked for or shown: {controller, id, isShown}
let timer;
let quietUntil = 0; // as the gateway asked: nothing by itself before

const editor = new Editor(find("code"), find("shown"), find("spoken"), {
  typed: () => {
    drop();
    const pause = Math.max(Number(settings.pause_ms.value), quietUntil - performance.now());
    if (settings.automatic.checked) timer = setTimeout(ask, pause);
  },
  asked: () => ask(),
  closed: (numAccepted) => {
    if (current.isShown && numAccepted) tell("accepted", numAccepted);
    else if (current.isShown) tell("dismissed");
    current.controller.abort(); // what would still come doesn't belong here
    current = undefined;
  },
});

/** Give up what was asked for, or will be. */
function drop() {
  clearTimeout(timer);
  editor.close();
}

/** Ask for a suggestion at the cursor, and show it as it comes. */
async function ask() {
  drop();
  if (!editor.before || editor.hasSelection) return;
  const mine = current = { controller: new AbortController() };
  const clock = figures.begin();
  editor.open();
  try {
    for await (const piece of stream(key, wish(), mine.controller.signal)) {
      if (current !== mine) return;
      mine.id = piece.id;
      if (piece.text) show(mine, piece.text, clock);
      if (piece.usage) figures.showWhole(clock, piece);
    }
    find("banner").hidden = true;
    if (mine.isShown) editor.speak();
    else drop(); // there was nothing to suggest
  } catch (error) {
    if (error.name === "AbortError" || current !== mine) return;
    drop();
    showError(error);
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

function show(mine, text, clock) {
  editor.extend(text);
  if (mine.isShown || current !== mine) return;
  mine.isShown = true;
  figures.showFirst(clock);
  tell("shown");
}

/** Tell the gateway, and the page, what became of the suggestion. */
function tell(kind, chars) {
  report(key, { id: current.id, kind, chars });
  if (kind !== "dismissed") figures.count(kind);
}

function showError(error) {
  if (error.code === "superseded") return; // by a newer request of this page
  quietUntil = performance.now() + (error.retryAfterS ?? 0) * 1000;
  const again = error.retryAfterS ? ` Ask again in ${Math.ceil(error.retryAfterS)} s.` : "";
  const isKeyMissing = error.status === 401 && !key;
  showBanner(isKeyMissing ? "This gateway asks for an API key: enter yours." : error.message + again);
  if (error.status === 401) find("key").focus();
}

function showBanner(text) {
  const isNew = find("banner").hidden || find("banner-text").textContent !== text;
  if (!isNew) return; // it has been read out
  find("banner").hidden = false;
  find("banner-text").textContent = text;
}

async function showReadiness() {
  if (document.hidden) return;
  const told = await readiness();
  if (find("state").textContent !== told) find("state").textContent = told;
}

/** Light or dark as the system says, until the button was pressed. */
function showTheme() {
  const chosen = localStorage.getItem("theme");
  const theme = chosen ?? (darkness.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  find("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

async function useKey() {
  try {
    await checkKey(key);
    find("banner").hidden = true;
    return true;
  } catch (error) {
    showError(error);
    return false;
  }
}

find("key").value = key;
find("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  sessionStorage.setItem("apiKey", key); // for this tab alone, and gone with it
  if (await useKey()) find("code").focus();
});
find("banner-close").addEventListener("click", () => {
  find("banner").hidden = true;
  find("code").focus();
});
find("code").addEventListener("blur", drop);
find("settings").addEventListener("change", drop);
find("settings").addEventListener("submit", (event) => event.preventDefault());
const darkness = matchMedia("(prefers-color-scheme: dark)");
darkness.addEventListener("change", showTheme);
find("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme === "dark";
  localStorage.setItem("theme", isDark ? "light" : "dark");
  showTheme();
});
addEventListener("pagehide", drop); // so that what was shown last is told of
showTheme();
editor.write(SAMPLE.join(""), SAMPLE[0].length);
find("code").focus();
useKey();
showReadiness();
setInterval(showReadiness, READY_EVERY_MS);
