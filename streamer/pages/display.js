// How captions look: letter size, lines, colours. Kept in this browser, shared by the pages.

const SIZES = [0.6, 0.75, 0.9, 1, 1.2, 1.45, 1.75, 2.1];
const DEFAULTS = { size: 3, lines: "2", theme: "auto", face: "sans" };

export class Display {
  #choices = { ...DEFAULTS };
  #onChange;

  /** Wires the elements of the menu "Display"; `onChange` is called when text is set anew. */
  constructor(onChange) {
    this.#onChange = onChange;
    for (const name of Object.keys(DEFAULTS)) this.#choices[name] = localStorage.getItem(name) ?? DEFAULTS[name];
    for (const select of document.querySelectorAll("select[data-display]")) {
      select.value = this.#choices[select.dataset.display];
      select.onchange = () => this.#choose(select.dataset.display, select.value);
    }
    document.getElementById("smaller").onclick = () => this.#resize(-1);
    document.getElementById("larger").onclick = () => this.#resize(+1);
    closeOutside(document.getElementById("display"));
    this.#apply();
  }

  #resize(step) {
    const size = Number(this.#choices.size) + step;
    this.#choose("size", Math.max(0, Math.min(SIZES.length - 1, size)));
  }

  #choose(name, value) {
    this.#choices[name] = value;
    localStorage.setItem(name, value);
    this.#apply();
  }

  #apply() {
    const { size, lines, theme, face } = this.#choices;
    const root = document.documentElement;
    root.style.setProperty("--size", SIZES[size] ?? 1);
    root.style.setProperty("--lines", lines);
    root.dataset.theme = theme;
    root.dataset.face = face;
    document.getElementById("smaller").disabled = Number(size) === 0;
    document.getElementById("larger").disabled = Number(size) === SIZES.length - 1;
    this.#onChange();
  }
}

/** Close a menu on Escape, and when something else is pressed. */
function closeOutside(menu) {
  addEventListener("pointerdown", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
  menu.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
