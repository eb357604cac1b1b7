// A textarea with a suggestion at its cursor: text comes in piece by piece, and what became of it
// goes out. Knows nothing of where suggestions come from.
//
// A suggestion belongs to a place: the text before and behind it. As long as what was written
// between them is how it begins, the rest of it is shown; however that was written.

/** What the editor calls back with. */
const EVENTS = ["typed", "asked", "closed"];

export class Editor {
  /**
   * `code` is the textarea, `shown` the element under it that draws its text, `spoken` a live
   * region. `on.typed()`: there is new text, not along a suggestion; `on.asked()`: Ctrl+Space;
   * `on.closed(numAccepted)`: the place that was opened is no more, and so many characters of the
   * suggestion were accepted.
   */
  constructor(code, shown, spoken, on) {
    this.code = code;
    this.spoken = spoken;
    this.on = Object.fromEntries(EVENTS.map((name) => [name, on[name] ?? (() => {})]));
    this.ghost = document.createElement("span");
    this.ghost.className = "ghost";
    this.head = new Text();
    this.tail = new Text();
    shown.replaceChildren(this.head, this.ghost, this.tail);
    code.addEventListener("input", (event) => this.#edited(event));
    code.addEventListener("compositionend", (event) => this.#edited(event));
    code.addEventListener("keydown", (event) => this.#keyed(event));
    document.addEventListener("selectionchange", () => this.#refresh());
    this.#draw();
  }

  get before() { return this.code.value.slice(0, this.code.selectionStart); }
  get after() { return this.code.value.slice(this.code.selectionEnd); }
  get hasSelection() { return this.code.selectionStart !== this.code.selectionEnd; }

  /** Other text, with the cursor somewhere in it. */
  write(text, cursor) {
    this.close();
    this.code.value = text;
    this.code.setSelectionRange(cursor, cursor);
    this.#draw();
  }

  /** Make the cursor's place that of the next suggestion. */
  open() {
    this.close();
    this.place = { before: this.before, after: this.after, text: "", numAccepted: 0 };
  }

  /** More of the suggestion. */
  extend(text) {
    this.place.text += text;
    this.#refresh();
  }

  /** Say the suggestion to who can't see it; once it is whole. */
  speak() {
    if (this.ghost.textContent) this.spoken.textContent = `Suggestion: ${this.ghost.textContent}`;
  }

  /** Put the suggestion, or its first `length` characters, into the text. */
  accept(length = this.ghost.textContent.length) {
    const text = this.ghost.textContent.slice(0, length);
    this.place.numAccepted += length;
    this.isAccepting = true;
    document.execCommand("insertText", false, text); // the one way that undo knows of
    this.isAccepting = false;
    this.spoken.textContent = `Inserted: ${text}`;
  }

  /** Take the suggestion away, if there is one. */
  close() {
    if (!this.place) return;
    const { numAccepted } = this.place;
    this.place = undefined;
    this.spoken.textContent = "";
    this.#draw();
    this.on.closed(numAccepted);
  }

  /** What is left of the suggestion; undefined where it doesn't belong any more. */
  #rest() {
    if (!this.place || this.hasSelection) return undefined;
    const { before, after, text } = this.place;
    if (!this.before.startsWith(before) || this.after !== after) return undefined;
    const written = this.before.slice(before.length);
    return text.startsWith(written) ? text.slice(written.length) : undefined;
  }

  #refresh() {
    const rest = this.#rest();
    const isOver = rest === undefined || (rest === "" && this.place.text !== "");
    if (this.place && isOver) this.close();
    else this.#draw();
  }

  #edited(event) {
    this.#refresh();
    const isUndo = event.inputType?.startsWith("history");
    const isAlong = this.ghost.textContent !== "";
    if (!event.isComposing && !this.isAccepting && !isUndo && !isAlong) this.on.typed();
  }

  #keyed(event) {
    if (event.isComposing) return;
    const isPlain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey;
    const ghost = this.ghost.textContent;
    if (event.key === " " && event.ctrlKey) this.on.asked();
    else if (!ghost) return; // Tab goes on to the next field
    else if (event.key === "Tab" && isPlain) this.accept();
    else if (event.key === "Escape" && isPlain) this.close();
    else if (event.key === "ArrowRight" && event.ctrlKey && !event.shiftKey) {
      this.accept(wordLength(ghost));
    } else return;
    event.preventDefault();
  }

  #draw() {
    this.head.data = this.before;
    this.ghost.textContent = this.#rest() ?? "";
    // A line behind the last newline is drawn only if something stands on it.
    this.tail.data = `${this.code.value.slice(this.code.selectionStart)}\u200b`;
  }
}

/** How much of a suggestion its first word is, with the space before it. */
export function wordLength(text) {
  return text.match(/^\s*(?:\w+|[^\w\s]+)?/)[0].length;
}
