// The transcript below the captions: final turns with their times, to read back, copy and download.

import { toFile } from "./subtitles.js";
import { clock } from "./turns.js";

const NEAR_END_PX = 40;

export class Transcript {
  #turns;
  #log = document.getElementById("log");
  #latest = document.getElementById("latest");

  constructor(turns) {
    this.#turns = turns;
    this.#latest.onclick = () => (this.#log.scrollTop = this.#log.scrollHeight);
    this.#log.onscroll = () => { if (this.#isAtEnd) this.#latest.hidden = true; };
    document.getElementById("copy").onclick = ({ currentTarget }) => this.#copy(currentTarget);
    for (const button of document.querySelectorAll("[data-download]")) {
      button.onclick = () => this.#download(button.dataset.download);
    }
  }

  /** Add a final turn. Who has scrolled back is left there. */
  append({ startS, text }) {
    if (!text.trim()) return;
    const isAtEnd = this.#isAtEnd;
    const time = Object.assign(document.createElement("time"), { textContent: clock(startS) });
    const said = Object.assign(document.createElement("span"), { textContent: text.trim(), dir: "auto" });
    const row = Object.assign(document.createElement("div"), { className: "turn" });
    row.append(time, said);
    this.#log.append(row);
    document.getElementById("empty").hidden = true;
    document.querySelectorAll("[data-download], #copy").forEach((button) => (button.disabled = false));
    if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
    else this.#latest.hidden = false;
  }

  /** Take everything away. */
  clear() {
    this.#log.replaceChildren();
    this.#latest.hidden = true;
    document.getElementById("empty").hidden = false;
    document.querySelectorAll("[data-download], #copy").forEach((button) => (button.disabled = true));
  }

  get #isAtEnd() {
    return this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_END_PX;
  }

  async #copy(button) {
    const done = await copied(toFile("txt", this.#turns.finals));
    button.textContent = done ? "Copied" : "Not allowed";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  #download(format) {
    const url = URL.createObjectURL(new Blob([toFile(format, this.#turns.finals)], { type: "text/plain;charset=utf-8" }));
    const name = `captions-${new Date().toISOString().slice(0, 16).replace(":", "")}.${format}`;
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    URL.revokeObjectURL(url);
  }
}

/** Whether the text is on the clipboard now; pages without https have the old way only. */
async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
