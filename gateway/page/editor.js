// A textarea with ghost text at its cursor: what is typed in, wishes for a suggestion out.
// Knows nothing of where suggestions come from.

/** What the editor calls back with. */
const EVENTS = ["typed", "asked", "accepted", "dismissed"];

export class Editor {
  /**
   * `code` is the textarea, `shown` the element that draws it, `spoken` a live region;
   * `on` has a function for each of EVENTS.
   */
  constructor(code, shown, spoken, on) {
    this.code = code;
    this.shown = shown;
    this.spoken = spoken;
    this.on = Object.fromEntries(EVENTS.map((name) => [name, on[name] ?? (() => {})]));
    this.ghost = "";
    code.addEventListener("input", () => this.#edited());
    code.addEventListener("keydown", (event) => this.#keyed(event));
    code.addEventListener("scroll", () => this.#scroll());
    code.addEventListener("blur", () => this.dismiss());
    document.addEventListener("selectionchange", () => this.#moved());
    this.#draw();
  }

  get before() { return this.code.value.slice(0, this.code.selectionStart); }
  get after() { return this.code.value.slice(this.code.selectionEnd); }
  get hasSelection() { return this.code.selectionStart !== this.code.selectionEnd; }

  /** Show a suggestion at the cursor, in place of the one before. */
  suggest(text) {
    this.at = this.code.selectionStart;
    this.ghost = text;
    this.#draw();
  }

  /** Say the suggestion to who can't see it; once it is whole. */
  speak() {
    this.spoken.textContent = this.ghost ? `Suggestion: ${this.ghost}` : "";
  }

  /** Put the suggestion, or its first `length` characters, into the text. */
  accept(length = this.ghost.length) {
    const text = this.ghost.slice(0, length);
    const rest = this.ghost.slice(length);
    this.ghost = "";
    // insertText keeps the browser's undo; the input event that it raises is ours.
    this.isAccepting = true;
    document.execCommand("insertText", false, text);
    this.isAccepting = false;
    this.spoken.textContent = `Inserted ${text}`;
    if (rest) this.suggest(rest);
    this.#draw();
    this.on.accepted(text, rest);
  }

  /** Take the suggestion away. */
  dismiss() {
    if (!this.ghost) return;
    this.ghost = "";
    this.spoken.textContent = "";
    this.#draw();
    this.on.dismissed();
  }

  #edited() {
    if (this.isAccepting) return;
    const typed = this.code.value.slice(this.at, this.code.selectionStart);
    if (this.ghost && typed && this.ghost.startsWith(typed) && this.ghost !== typed) {
      this.suggest(this.ghost.slice(typed.length)); // typed what was suggested: it stays
      return;
    }
    this.dismiss();
    this.#draw();
    this.on.typed();
  }

  #keyed(event) {
    if (event.isComposing) return;
    const isPlain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey;
    if (event.key === " " && event.ctrlKey) this.on.asked();
    else if (!this.ghost) return;
    else if (event.key === "Tab" && isPlain) this.accept();
    else if (event.key === "Escape") this.dismiss();
    else if (event.key === "ArrowRight" && event.ctrlKey) this.accept(wordLength(this.ghost));
    else return;
    event.preventDefault();
  }

  #moved() {
    const isHere = document.activeElement === this.code;
    if (!this.ghost || this.isAccepting || !isHere) return;
    const start = this.code.selectionStart;
    if (this.hasSelection || start < this.at) this.dismiss();
    else if (start > this.at && this.code.value.length === this.length) this.dismiss();
  }

  #draw() {
    this.length = this.code.value.length;
    const ghost = document.createElement("span");
    ghost.className = "ghost";
    ghost.textContent = this.ghost;
    // A line behind the last newline is drawn only if something stands on it.
    this.shown.replaceChildren(this.before, ghost, this.code.value.slice(this.code.selectionStart), "\u200b");
    this.#scroll();
  }

  #scroll() {
    this.shown.scrollTop = this.code.scrollTop;
    this.shown.scrollLeft = this.code.scrollLeft;
  }
}

/** How much of a suggestion its first word is, with the space before it. */
export function wordLength(text) {
  return text.match(/^\s*(?:\w+|[^\w\s]+)?/)[0].length || text.length;
}
