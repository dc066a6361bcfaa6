// The keys of the transcript. It is one stop of the Tab key, however long it is: Up, Down, Home and End go from sentence to
// sentence, Left and Right from word to word, and Tab goes on to what can be done with the sentence.

const STOPS = ".said, .correct"; // of a row

export class TurnKeys {
  #list;
  #onWord;
  #row = null; // that Tab comes to

  /** `onWord(word)`: a word was chosen; null: none is any more. */
  constructor(list, onWord) {
    this.#list = list;
    this.#onWord = onWord;
    list.addEventListener("focusin", ({ target }) => this.#rest(target.closest(".turn")));
    list.addEventListener("focusout", () => onWord(null));
    list.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Take in a row that is new, or has a new content. Tab comes to the newest one, unless the reader is at another. */
  take(row) {
    const isLost = !this.#row?.isConnected || this.#row.hidden;
    const isNewest = !row.nextElementSibling && !this.#list.contains(document.activeElement);
    setStops(row, row === this.#row);
    if (isLost || isNewest) this.#rest(row.hidden ? (beside(row, "previousElementSibling") ?? beside(row, "nextElementSibling")) : row);
  }

  /** Go to the sentence that Tab comes to. */
  focus() {
    focus(this.#row);
  }

  #rest(row) {
    if (!row) return;
    if (this.#row) setStops(this.#row, false);
    this.#row = row;
    setStops(row, true);
  }

  #press(event) {
    if (event.target.matches("textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest(".turn");
    const said = row?.querySelector(".said");
    const isLeftward = said && getComputedStyle(said).direction === "rtl";
    const steps = {
      ArrowUp: () => focus(beside(row, "previousElementSibling")),
      ArrowDown: () => focus(beside(row, "nextElementSibling")),
      Home: () => focus(this.#list.querySelector(".turn:not([hidden])")),
      End: () => focus([...this.#list.querySelectorAll(".turn:not([hidden])")].at(-1)),
      ArrowLeft: () => this.#step(said, isLeftward ? 1 : -1),
      ArrowRight: () => this.#step(said, isLeftward ? -1 : 1),
      Escape: () => this.#onWord(null),
    };
    if (!said || !steps[event.key]) return;
    event.preventDefault();
    steps[event.key]();
  }

  /** Choose the word before or after the chosen one; the first or the last of the sentence if none is. */
  #step(said, direction) {
    const words = [...said.querySelectorAll(".word")];
    const chosen = words.findIndex((word) => word.matches(".chosen"));
    const next = chosen < 0 ? (direction > 0 ? 0 : words.length - 1) : chosen + direction;
    if (words[next]) this.#onWord(words[next]);
  }
}

function setStops(row, isStop) {
  for (const stop of row.querySelectorAll(STOPS)) stop.tabIndex = isStop ? 0 : -1;
}

/** The nearest row in this direction that is shown; null: there is none. */
function beside(row, direction) {
  let next = row[direction];
  while (next?.hidden) next = next[direction];
  return next;
}

function focus(row) {
  row?.querySelector(".said")?.focus();
}
