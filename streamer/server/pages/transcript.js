// The transcript below the captions: final turns with their times, to read, correct, copy and download.

import { toFile } from "./subtitles.js";
import { TurnKeys } from "./turn-keys.js";
import { clock } from "./turns.js";

const NEAR_END_PX = 40;
const ANNOUNCED = 5; // turns
const UNSURE = 0.75; // confidence
const VERY_UNSURE = 0.5;
const DOWNLOAD_MS = 60000; // Safari reads a file after the click that saves it
const TOOLS = `
  <span class="grow"></span>
  <button id="copy" type="button" disabled>Copy</button>
  <div class="pair" role="group" aria-label="Download the transcript">
    <button type="button" data-download="txt" disabled>TXT</button>
    <button type="button" data-download="srt" disabled>SRT</button>
    <button type="button" data-download="vtt" disabled>VTT</button>
    <button type="button" data-download="json" disabled>JSON</button>
  </div>
`;
const PAPER = `
  <div class="paper">
    <div id="log" role="region" aria-label="Sentences"><div id="turns"></div></div>
    <div id="announced" class="unseen" role="log" aria-label="New sentences"></div>
    <p id="empty" class="empty">Finished sentences are kept here, with their times.</p>
    <output id="word-time" class="word-time" hidden></output>
    <button id="latest" class="latest" type="button" hidden>Jump to latest</button>
  </div>
`;

export class Transcript {
  #turns;
  #facts;
  #onCorrect;
  #rows = new Map(); // key of a turn -> row
  #log; // it scrolls
  #list; // the rows in it
  #keys;
  #isFollowing = true; // the reader is at the end, and stays there
  #keptTop = 0; // where the text stood after the last new layout
  #announced;
  #latest;
  #empty;
  #wordTime;
  #buttons;

  /**
   * Fill a `<section>` whose `<header>` holds the title. `facts()`: { date, model } for downloads; `onCorrect(turn, text)`:
   * keeps a correction (without it nothing can be corrected).
   */
  constructor(section, turns, { facts = () => ({ date: new Date() }), onCorrect = null } = {}) {
    this.#turns = turns;
    this.#facts = facts;
    this.#onCorrect = onCorrect;
    section.querySelector("header").insertAdjacentHTML("beforeend", TOOLS);
    section.insertAdjacentHTML("beforeend", PAPER);
    const find = (id) => section.querySelector(`#${id}`);
    [this.#log, this.#list, this.#announced, this.#latest, this.#empty, this.#wordTime] = ["log", "turns", "announced", "latest", "empty", "word-time"].map(find);
    this.#buttons = section.querySelectorAll("#copy, [data-download]");
    this.#latest.onclick = () => (this.#log.scrollTop = this.#log.scrollHeight);
    this.#log.onscroll = () => this.#scrolled();
    this.#log.onclick = ({ target }) => this.#choose(target.closest(".word"));
    this.#keys = new TurnKeys(this.#list, (word) => this.#choose(word));
    // another turn, another size of the text or of the window: once a frame, for a long talk comes in thousands of turns
    const sizes = new ResizeObserver(() => this.#keepPlace());
    [this.#log, this.#list].forEach((box) => sizes.observe(box));
    find("copy").onclick = ({ currentTarget }) => this.#copy(currentTarget);
    for (const button of section.querySelectorAll("[data-download]")) {
      button.onclick = () => this.#download(button.dataset.download);
    }
  }

  /** Add a final turn, or show its new text; scroll to it unless the reader has scrolled back. */
  append(turn, { isNew = true } = {}) {
    const known = this.#rows.get(turn.key);
    if (known?.querySelector("textarea")) return; // it is being corrected; its end shows the turn
    if (known) return this.#fill(known, turn);
    if (!turn.text.trim()) return;
    const row = element("div", "turn");
    this.#rows.set(turn.key, row);
    this.#list.append(row);
    this.#fill(row, turn);
    if (isNew) this.#announce(turn);
    this.#empty.hidden = true;
    this.#buttons.forEach((button) => (button.disabled = false));
  }

  /** Show these turns alone. */
  restore(turns) {
    this.clear();
    turns.forEach((turn) => this.append(turn, { isNew: false }));
  }

  /** Remove a turn. */
  remove({ key }) {
    this.#rows.get(key)?.remove();
    this.#keptTop = 0; // the browser moves what is below it up
    this.#rows.delete(key);
  }

  /** Remove all turns. */
  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#announced.replaceChildren();
    this.#latest.hidden = true;
    this.#isFollowing = true;
    this.#choose(null);
    this.#empty.hidden = false;
    this.#buttons.forEach((button) => (button.disabled = true));
  }

  /** Stay at the end if the reader is there; otherwise offer to go there. */
  #keepPlace() {
    if (this.#isFollowing) this.#log.scrollTop = this.#log.scrollHeight;
    else this.#latest.hidden = !this.#rows.size;
    this.#keptTop = this.#log.scrollTop;
    this.#placeTime();
  }

  #scrolled() {
    this.#placeTime();
    const isAtEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < NEAR_END_PX;
    // a new layout leaves the end too, until the place is kept, but it goes back to no earlier line
    this.#isFollowing = isAtEnd || (this.#isFollowing && this.#log.scrollTop >= this.#keptTop);
    if (isAtEnd) this.#latest.hidden = true;
  }

  /** Let screen readers say the text alone, without the row's buttons. */
  #announce({ text, lang = "" }) {
    this.#announced.append(Object.assign(element("p", "", text.trim()), { lang, dir: "auto" }));
    if (this.#announced.childElementCount > ANNOUNCED) this.#announced.firstElementChild.remove();
  }

  // ---- rows

  #fill(row, turn) {
    const time = element("time", "", clock(turn.startS));
    if (turn.spokenAt > 0) time.title = new Date(turn.spokenAt).toLocaleTimeString();
    const said = element("span", "said");
    Object.assign(said, { lang: turn.lang ?? "", dir: "auto" });
    said.append(...wordElements(turn));
    row.hidden = !turn.text.trim();
    const focused = row.contains(document.activeElement) && document.activeElement.className;
    row.replaceChildren(time, said);
    if (this.#onCorrect) row.append(this.#correctButton(row, turn));
    this.#keys.take(row);
    if (focused) row.querySelector(`.${focused}`)?.focus({ preventScroll: true }); // a turn may be revised under the reader's hands
  }

  #correctButton(row, turn) {
    const button = element("button", "correct", "Correct");
    button.type = "button";
    button.setAttribute("aria-label", `Correct the sentence at ${clock(turn.startS)}`);
    button.onclick = () => this.#edit(row, turn);
    return button;
  }

  /** Put a text field in the place of the sentence: Enter keeps the text, Escape leaves it as it was. */
  #edit(row, turn) {
    const field = element("textarea", "edit", turn.text.trim());
    field.rows = Math.max(1, Math.ceil(field.value.length / 60));
    Object.assign(field, { lang: turn.lang ?? "", dir: "auto" });
    field.setAttribute("aria-label", `Sentence at ${clock(turn.startS)}`);
    const close = (isKept) => {
      field.onblur = null;
      const isChanged = field.value !== field.defaultValue; // the turn may have been revised meanwhile
      if (isKept && isChanged) this.#onCorrect(turn, field.value.replace(/\s+/g, " ").trim());
      this.#fill(row, turn);
      if (row.hidden) this.#keys.focus();
      else row.querySelector(".correct").focus();
    };
    field.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      if (!event.isComposing) close(event.key === "Enter");
    };
    field.onblur = () => close(true);
    this.#choose(null);
    row.replaceChildren(row.firstElementChild, field);
    field.focus();
    field.scrollIntoView({ block: "center" });
  }

  /** Show the time of a word; null: of none. */
  #choose(word) {
    this.#list.querySelector(".chosen")?.classList.remove("chosen");
    const isAsked = word && document.documentElement.dataset.wordTimes !== "no";
    this.#wordTime.hidden = !isAsked;
    if (!isAsked) return;
    word.classList.add("chosen");
    word.scrollIntoView({ block: "nearest" });
    const { start, end, confidence } = word.dataset;
    const tenths = (seconds) => `${clock(Number(seconds))}.${Math.floor((Number(seconds) % 1) * 10)}`;
    const told = `: ${tenths(start)} – ${tenths(end)} · ${Math.round(100 * Number(confidence))} % sure`;
    this.#wordTime.replaceChildren(element("bdi", "", word.textContent), told);
    this.#placeTime();
  }

  /** Put the time above its word, below a word of the first line. */
  #placeTime() {
    const word = this.#list.querySelector(".chosen");
    if (!word) return (this.#wordTime.hidden = true);
    const [at, paper] = [word.getBoundingClientRect(), this.#log.getBoundingClientRect()];
    this.#wordTime.hidden = at.bottom < paper.top || at.top > paper.bottom;
    const left = Math.min(at.left - paper.left, paper.width - this.#wordTime.offsetWidth - 8);
    this.#wordTime.style.left = `${Math.max(8, left)}px`;
    const above = at.top - paper.top - this.#wordTime.offsetHeight - 4;
    this.#wordTime.style.top = `${above < 4 ? at.bottom - paper.top + 4 : above}px`;
  }

  // ---- files

  async #copy(button) {
    const done = await copied(toFile("txt", this.#turns.finals));
    button.textContent = done ? "Copied" : "Not allowed";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  #download(format) {
    const { date, ...facts } = this.#facts();
    const content = toFile(format, this.#turns.finals, { date: localTime(date), ...facts });
    const url = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
    const name = `captions-${localTime(date).slice(0, 16).replace("T", "-").replace(":", "")}.${format}`;
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), DOWNLOAD_MS);
  }
}

/** The text of a turn with an element around each word; words that the text does not hold are left out. */
function wordElements({ text, words }) {
  const parts = [];
  let end = 0;
  for (const word of words) {
    const spoken = word.text.trim();
    const begin = spoken ? text.indexOf(spoken, end) : -1;
    if (begin < 0) continue;
    parts.push(text.slice(end, begin), wordElement(spoken, word));
    end = begin + spoken.length;
  }
  return [...parts, text.slice(end)].filter((part) => part);
}

function wordElement(spoken, { start_s, end_s, confidence }) {
  const word = element("span", "word", spoken);
  Object.assign(word.dataset, { start: start_s, end: end_s, confidence });
  if (confidence < UNSURE) word.dataset.unsure = confidence < VERY_UNSURE ? "very" : "a-bit";
  return word;
}

/** 2026-11-27T14:05:09+01:00 */
function localTime(date) {
  const ahead = -date.getTimezoneOffset();
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const shifted = new Date(date.getTime() + 60000 * ahead).toISOString().slice(0, 19);
  return `${shifted}${ahead < 0 ? "-" : "+"}${two(Math.abs(ahead) / 60)}:${two(Math.abs(ahead) % 60)}`;
}

function element(name, className, textContent = "") {
  return Object.assign(document.createElement(name), { className, textContent });
}

/** Copy a text; return whether that was allowed. Pages without https have execCommand alone. */
export async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
