// The display menu of the pages: text size, lines, colours, typeface, marks of words, full screen. Stored in this browser, shared by all pages.

import { fullScreen } from "./full-screen.js";
import { browserMemory } from "./storage.js";

const SIZES = [0.6, 0.75, 0.9, 1, 1.2, 1.45, 1.75, 2.1];
const DEFAULTS = { size: 3, lines: "2", theme: "auto", face: "sans", shade: "no", wordTimes: "yes" };
const MENU = `
  <summary>Display</summary>
  <div class="sheet">
    <div class="field" role="group" aria-label="Text size">Text size
      <div class="pair">
        <button data-size="smaller" type="button" aria-label="Smaller text">A−</button>
        <button data-size="larger" type="button" aria-label="Larger text">A+</button>
      </div>
    </div>
    <label class="field">Lines
      <select data-display="lines"><option>2</option><option>3</option><option>4</option><option>6</option></select>
    </label>
    <label class="field">Colours
      <select data-display="theme">
        <option value="auto">As the system</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
        <option value="contrast">White on black</option>
        <option value="yellow">Yellow on black</option>
      </select>
    </label>
    <label class="field">Typeface
      <select data-display="face"><option value="sans">Sans</option><option value="serif">Serif</option><option value="mono">Fixed width</option></select>
    </label>
    <label class="check"><input data-display="shade" type="checkbox">Shade unsure words</label>
    <label class="check"><input data-display="wordTimes" type="checkbox">Times of words, by click or arrow keys</label>
    <button id="enter-full" type="button">Full screen</button>
  </div>
`;

export class Display {
  #menu;
  #choices = { ...DEFAULTS };
  #onChange;

  /**
   * Fill a `<details>` with the menu; `onChange` is called after each change, when the text has a new layout. `hasWords`:
   * the transcript knows the times of its words.
   */
  constructor(menu, onChange, { hasWords = false } = {}) {
    this.#menu = menu;
    this.#onChange = onChange;
    menu.innerHTML = MENU;
    for (const name of Object.keys(DEFAULTS)) this.#choices[name] = browserMemory.get(name) ?? DEFAULTS[name];
    for (const select of menu.querySelectorAll("select")) {
      select.value = this.#choices[select.dataset.display];
      select.onchange = () => this.#choose(select.dataset.display, select.value);
    }
    this.#button("smaller").onclick = () => this.#resize(-1);
    this.#button("larger").onclick = () => this.#resize(+1);
    for (const box of menu.querySelectorAll("input")) {
      box.checked = this.#choices[box.dataset.display] === "yes";
      box.onchange = () => this.#choose(box.dataset.display, box.checked ? "yes" : "no");
      box.parentElement.hidden = !hasWords;
    }
    fullScreen(menu.querySelector("#enter-full"), document.getElementById("leave-full"), onChange);
    closeOutside(menu);
    this.#apply();
  }

  #button(name) {
    return this.#menu.querySelector(`[data-size="${name}"]`);
  }

  #resize(step) {
    const size = Number(this.#choices.size) + step;
    this.#choose("size", Math.max(0, Math.min(SIZES.length - 1, size)));
  }

  #choose(name, value) {
    this.#choices[name] = value;
    browserMemory.set(name, value);
    this.#apply();
  }

  #apply() {
    const { size, lines, theme, face, shade, wordTimes } = this.#choices;
    const root = document.documentElement;
    root.style.setProperty("--size", SIZES[size] ?? 1);
    root.style.setProperty("--lines", lines);
    root.dataset.theme = theme;
    Object.assign(root.dataset, { face, shade, wordTimes });
    this.#button("smaller").disabled = Number(size) === 0;
    this.#button("larger").disabled = Number(size) === SIZES.length - 1;
    this.#onChange();
  }
}

/** Close a menu on Escape, and on a press outside of it. */
export function closeOutside(menu) {
  addEventListener("pointerdown", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
  // of the window: a button that is disabled by its own click loses the focus
  addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
