// Captions as they are read: lines that roll up, the open turn at the bottom. Stable words never move or change; the
// unstable tail is set apart, and its words settle when they become stable.

const SHOWN = 4; // turns

export class CaptionView {
  #stage;
  #rows = []; // { key, element, stable }
  #isStill = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(stage) {
    this.#stage = stage;
  }

  /** Show a turn as it stands now. */
  show({ key, text, partial, isFinal }) {
    const row = this.#row(key);
    const grown = text.startsWith(row.stable) ? text.slice(row.stable.length) : "";
    row.element.replaceChildren(grown ? row.stable : text);
    if (grown) row.element.append(span(row.stable ? "settled" : "settled first", grown));
    const tail = partial.trimStart();
    if (tail) row.element.append(partial.slice(0, -tail.length), span("partial", tail));
    row.stable = text;
    row.element.dataset.final = isFinal;
    this.settle();
  }

  /** Take everything away. */
  clear() {
    this.#rows = [];
    this.#stage.replaceChildren();
  }

  /** Bring the newest line into view. */
  settle() {
    this.#stage.scrollTo({ top: this.#stage.scrollHeight, behavior: this.#isStill.matches ? "auto" : "smooth" });
  }

  #row(key) {
    const known = this.#rows.find((row) => row.key === key);
    if (known) return known;
    if (!this.#rows.length) this.#stage.replaceChildren();
    // the turn that was said before steps back once a new one begins
    this.#rows.forEach(({ element }) => element.classList.add("past"));
    const row = { key, element: Object.assign(document.createElement("p"), { dir: "auto" }), stable: "" };
    this.#stage.append(row.element);
    this.#rows.push(row);
    // only what has rolled out of sight goes, so that nothing in sight is set anew
    if (this.#rows.length > SHOWN) this.#rows.shift().element.remove();
    return row;
  }
}

function span(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}
