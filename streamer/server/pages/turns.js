// The turns of a transcript in order; the last turn may be open. No page, no socket.

import { realigned } from "./corrections.js";

export class Turns {
  // { key, n, text, said, partial, startS, endS, words, language, lang, spokenAt (as Date.now; NaN: unknown), isFinal,
  // isCorrected }; n rises; `said` is the final text before its revision; `lang` is the language of the text for the
  // browser, and "" where it is not known
  all = [];
  /** Duration of the recordings before the current one, seconds: added to its times. */
  offsetS = 0;
  #epoch = 0;
  #zeroMs = NaN; // time of second 0, as Date.now; of what others speak it is not known
  #lang = ""; // of a turn that is open: as the session is set, else as the turn before
  #isTranslated = false; // into English

  /** Apply an event; return the changed turn, or null. */
  apply(event) {
    if (event.type === "caption") {
      return this.#set(event, { text: event.stable, partial: event.partial, isFinal: false });
    }
    if (event.type === "turn_end") {
      return this.#set(event, { text: event.text, said: event.text, partial: "", isFinal: true, ...this.#spoken(event) });
    }
    if (event.type === "turn_revised" && this.current(event.turn)?.isFinal) {
      return this.#set(event, { text: event.text, ...this.#spoken(event) });
    }
    if (event.type === "started") this.expect(event);
    return null;
  }

  /** What the session is set to from now on: fields of `started` or `update`. */
  expect({ language = "auto", task }) {
    if (task) this.#isTranslated = task === "translate";
    if (this.#isTranslated || language !== "auto") this.#lang = this.#langOf(language);
  }

  /** Begin a new session, whose turns are numbered from 0: close the open turn with its stable words, and return it. */
  restart() {
    this.#epoch += 1;
    const open = this.all.at(-1);
    return !open || open.isFinal ? null : closed(open);
  }

  /** The turn of this number in the current session, or undefined. */
  current(number) {
    return this.all.findLast(({ key }) => key === `${this.#epoch}.${number}`);
  }

  /** Begin a recording at this time, as Date.now. */
  record(nowMs) {
    this.#zeroMs = nowMs - 1000 * this.offsetS;
  }

  /** Take over the turns of an earlier visit; the next recording continues their times. */
  restore(turns) {
    this.all = turns;
    turns.filter((turn) => !turn.isFinal).forEach(closed);
    this.offsetS = Math.max(0, ...turns.map(({ endS }) => endS));
    this.#epoch = 1 + Math.max(0, ...turns.map(({ key }) => Number.parseInt(key, 10)));
  }

  /** Replace the text of a final turn; words that stay keep their times. Later events of the turn are ignored. */
  correct(turn, text) {
    Object.assign(turn, { words: realigned(turn, text), text, isCorrected: true });
  }

  /** Remove all turns. */
  clear() {
    this.all = [];
    this.#epoch += 1;
    this.#lang = "";
  }

  /** The final turns with text. */
  get finals() {
    return this.all.filter((turn) => turn.isFinal && turn.text.trim());
  }

  #set(event, state) {
    let turn = this.current(event.turn);
    if (turn?.isCorrected) return null;
    if (!turn) this.all.push((turn = { key: `${this.#epoch}.${event.turn}`, n: 1 + (this.all.at(-1)?.n ?? -1), lang: this.#lang }));
    const later = (seconds) => seconds + this.offsetS;
    const words = (event.words ?? []).map((word) => ({ ...word, start_s: later(word.start_s), end_s: later(word.end_s) }));
    const startS = later(event.start_s ?? event.words?.[0]?.start_s ?? turn.startS - this.offsetS);
    const endS = later(event.end_s ?? event.words?.at(-1)?.end_s ?? turn.endS - this.offsetS);
    return Object.assign(turn, state, { startS, endS, words, spokenAt: this.#zeroMs + 1000 * startS });
  }

  /** The language of a turn that has ended: of its sound, and of its text. */
  #spoken({ language }) {
    if (language) this.#lang = this.#langOf(language);
    return { language, lang: this.#lang };
  }

  #langOf(language) {
    if (this.#isTranslated) return "en";
    return language === "jw" ? "jv" : language; // Whisper's code of Javanese was withdrawn
  }
}

/** End a turn with its stable words. */
function closed(turn) {
  const words = turn.words.filter((word) => word.stable);
  return Object.assign(turn, { partial: "", isFinal: true, words, endS: words.at(-1)?.end_s ?? turn.endS });
}

/** 65.2 -> "1:05" */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (h ? `${h}:${String(m).padStart(2, "0")}` : m) + `:${String(s).padStart(2, "0")}`;
}
