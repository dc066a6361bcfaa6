// Captions as they are read: the last turns below each other, rolling up, the open one at the bottom.

const SHOWN = 3;

export class CaptionView {
  #stage;
  #rows = []; // { key, element }
  #isStill = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(stage) {
    this.#stage = stage;
  }

  /** Show a turn as it stands now. */
  show({ key, text, partial, isFinal }) {
    const element = this.#row(key);
    element.replaceChildren(text);
    if (partial) {
      const tail = document.createElement("span");
      tail.className = "partial";
      tail.textContent = partial;
      element.append(tail);
    }
    // the turn that was said before steps back once a new one begins
    this.#rows.forEach((row) => row.element.classList.toggle("past", row.element !== element));
    element.dataset.final = isFinal;
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
    if (known) return known.element;
    if (!this.#rows.length) this.#stage.replaceChildren();
    const element = document.createElement("p");
    this.#stage.append(element);
    this.#rows.push({ key, element });
    // only what has rolled out of sight goes, so that nothing in sight is set anew
    if (this.#rows.length > SHOWN) this.#rows.shift().element.remove();
    return element;
  }
}
