// The transcript below the captions: final turns with their times, to read, copy and download.

import { toFile } from "./subtitles.js";
import { clock } from "./turns.js";

const NEAR_END_PX = 40;
const TOOLS = `
  <span class="grow"></span>
  <button id="copy" type="button" class="small" disabled>Copy</button>
  <div class="pair" role="group" aria-label="Download the transcript">
    <button type="button" data-download="txt" disabled>TXT</button>
    <button type="button" data-download="srt" disabled>SRT</button>
    <button type="button" data-download="vtt" disabled>VTT</button>
    <button type="button" data-download="json" disabled>JSON</button>
  </div>
`;
const PAPER = `
  <div class="paper">
    <div id="log" role="log" aria-label="Transcript" tabindex="0"></div>
    <p id="empty" class="empty">Finished sentences are kept here, with their times.</p>
    <button id="latest" class="latest" type="button" hidden>Jump to latest</button>
  </div>
`;

export class Transcript {
  #turns;
  #log;
  #latest;
  #empty;
  #buttons;

  /** Fill a `<section>` whose `<header>` holds the title. */
  constructor(section, turns) {
    this.#turns = turns;
    section.querySelector("header").insertAdjacentHTML("beforeend", TOOLS);
    section.insertAdjacentHTML("beforeend", PAPER);
    this.#log = section.querySelector("#log");
    this.#latest = section.querySelector("#latest");
    this.#empty = section.querySelector("#empty");
    this.#buttons = section.querySelectorAll("header button");
    this.#latest.onclick = () => (this.#log.scrollTop = this.#log.scrollHeight);
    this.#log.onscroll = () => { if (this.#isAtEnd) this.#latest.hidden = true; };
    section.querySelector("#copy").onclick = ({ currentTarget }) => this.#copy(currentTarget);
    for (const button of section.querySelectorAll("[data-download]")) {
      button.onclick = () => this.#download(button.dataset.download);
    }
  }

  /** Add a final turn; scroll to it unless the reader has scrolled back. */
  append({ startS, text }) {
    if (!text.trim()) return;
    const isAtEnd = this.#isAtEnd;
    const time = Object.assign(document.createElement("time"), { textContent: clock(startS) });
    const said = Object.assign(document.createElement("span"), { textContent: text.trim(), dir: "auto" });
    const row = Object.assign(document.createElement("div"), { className: "turn" });
    row.append(time, said);
    this.#log.append(row);
    this.#empty.hidden = true;
    this.#buttons.forEach((button) => (button.disabled = false));
    if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
    else this.#latest.hidden = false;
  }

  /** Remove all turns. */
  clear() {
    this.#log.replaceChildren();
    this.#latest.hidden = true;
    this.#empty.hidden = false;
    this.#buttons.forEach((button) => (button.disabled = true));
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

/** Copy a text; return whether that was allowed. Pages without https have execCommand alone. */
async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
