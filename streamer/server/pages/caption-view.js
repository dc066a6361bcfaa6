// The captions on the page: lines that roll up, with the open turn at the bottom. Stable words never move or change
// before their turn has ended; the unstable tail has a style of its own until its words become stable.

import { onceAFrame } from "./frames.js";

const MANY_ROWS = 50;
// letters with marks above and below one another, which need higher lines
const TALL = lettersOf("Thai", "Lao", "Khmer", "Arabic", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala");
const TALLEST = lettersOf("Myanmar", "Tibetan");

export class CaptionView {
  #stage;
  #rows = []; // { key, element, stable }
  #isStill = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(stage) {
    this.#stage = stage;
    // another size of the window or of the text puts the newest line elsewhere
    new ResizeObserver(() => this.settle()).observe(stage);
  }

  /** Show the current state of a turn. */
  show({ key, text, partial, lang = "" }) {
    const row = this.#row(key);
    row.element.lang = lang; // "": not known, and not that of the page
    this.#giveRoom(text + partial, lang);
    const grown = text.startsWith(row.stable) ? text.slice(row.stable.length) : "";
    row.element.replaceChildren(grown ? row.stable : text);
    if (grown) row.element.append(span("settled", grown));
    const tail = partial.trimStart();
    if (tail) row.element.append(partial.slice(0, -tail.length), span("partial", tail));
    row.stable = text;
    this.settle();
  }

  /** Show the revised text of a turn that is still on the stage. */
  revise(turn) {
    if (this.#rows.some(({ key }) => key === turn.key)) this.show(turn);
  }

  /** Remove all turns. */
  clear() {
    this.#rows = [];
    this.#stage.replaceChildren();
    delete this.#stage.dataset.script;
  }

  /** Bring the newest line into view: smoothly by a line, at once by more; once for all that changes in a frame. */
  settle = onceAFrame(() => () => this.#settle());

  #settle() {
    this.#dropUnseen();
    const stage = this.#stage;
    const distance = stage.scrollHeight - stage.clientHeight - stage.scrollTop;
    const isNear = distance <= 1.5 * Number.parseFloat(getComputedStyle(stage).lineHeight);
    stage.scrollTo({ top: stage.scrollHeight, behavior: isNear && !this.#isStill.matches ? "smooth" : "instant" });
  }

  /** Make the lines high enough for a text. They stay so until the stage is cleared: no turn moves the page back. */
  #giveRoom(text, lang) {
    // Urdu is written in a slanting hand where the machine has one
    if (TALLEST.test(text) || lang === "ur") this.#stage.dataset.script = "tallest";
    else if (TALL.test(text)) this.#stage.dataset.script ??= "tall";
  }

  #row(key) {
    const known = this.#rows.find((row) => row.key === key);
    if (known) return known;
    // earlier turns are dimmed once a new turn begins
    this.#rows.forEach(({ element }) => element.classList.add("past"));
    const row = { key, element: Object.assign(document.createElement("p"), { dir: "auto" }), stable: "" };
    this.#stage.append(row.element);
    this.#rows.push(row);
    if (this.#rows.length > MANY_ROWS) this.#dropUnseen(); // a page that is not shown has no frames
    return row;
  }

  /** Remove rows that are far out of view, so that no visible row changes its layout. */
  #dropUnseen() {
    const { scrollHeight, clientHeight } = this.#stage;
    let spare = scrollHeight - 3 * clientHeight;
    while (this.#rows.length > 1 && (spare -= this.#rows[0].element.offsetHeight) > 0) this.#rows.shift().element.remove();
  }
}

function span(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}

function lettersOf(...scripts) {
  return new RegExp(`[${scripts.map((script) => `\\p{Script=${script}}`).join("")}]`, "u");
}
