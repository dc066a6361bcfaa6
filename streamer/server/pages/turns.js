// The turns of a transcript in order; the last turn may be open. No page, no socket.

export class Turns {
  /** { key, text, partial, startS, endS, words, isFinal }, in order. */
  all = [];
  /** Duration of the recordings before the current one, seconds: added to its times. */
  offsetS = 0;
  #epoch = 0;

  /** Apply an event; return the changed turn, or null. */
  apply(event) {
    if (event.type === "caption") {
      return this.#set(event, { text: event.stable, partial: event.partial, isFinal: false });
    }
    if (event.type === "turn_end") {
      return this.#set(event, { text: event.text, partial: "", isFinal: true });
    }
    return null;
  }

  /** Begin a new session, whose turns are numbered from 0: close the open turn with its stable words, and return it. */
  restart() {
    this.#epoch += 1;
    const open = this.all.at(-1);
    if (!open || open.isFinal) return null;
    const words = open.words.filter((word) => word.stable);
    Object.assign(open, { partial: "", isFinal: true, words, endS: words.at(-1)?.end_s ?? open.endS });
    return open;
  }

  /** Remove all turns. */
  clear() {
    this.all = [];
    this.#epoch += 1;
  }

  /** The final turns with text. */
  get finals() {
    return this.all.filter((turn) => turn.isFinal && turn.text.trim());
  }

  #set(event, state) {
    const key = `${this.#epoch}.${event.turn}`;
    let turn = this.all.findLast((known) => known.key === key);
    if (!turn) this.all.push((turn = { key }));
    const later = (seconds) => seconds + this.offsetS;
    const words = (event.words ?? []).map((word) => ({ ...word, start_s: later(word.start_s), end_s: later(word.end_s) }));
    return Object.assign(turn, state, { startS: later(event.start_s), endS: later(event.end_s), words });
  }
}

/** 65.2 -> "1:05" */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (h ? `${h}:${String(m).padStart(2, "0")}` : m) + `:${String(s).padStart(2, "0")}`;
}
