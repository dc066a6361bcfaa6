// What was said: turns in order, the last of which may be open. No page, no socket.

export class Turns {
  /** { key, text, partial, startS, endS, words, isFinal }, in order. */
  all = [];
  /** Seconds before the first sample of the running recording: those of the recordings before it. */
  offsetS = 0;
  #epoch = 0;

  /** Apply an event; the turn it changed, or null. */
  apply(event) {
    if (event.type === "caption") {
      return this.#set(event, { text: event.stable, partial: event.partial, isFinal: false });
    }
    if (event.type === "turn_end") {
      return this.#set(event, { text: event.text, partial: "", isFinal: true });
    }
    return null;
  }

  /** A new session goes on: what is stable of the open turn stays, its numbers begin again. */
  restart() {
    this.#epoch += 1;
    const open = this.all.at(-1);
    if (!open || open.isFinal) return null;
    const words = open.words.filter((word) => word.stable);
    Object.assign(open, { partial: "", isFinal: true, words, endS: words.at(-1)?.end_s ?? open.endS });
    return open;
  }

  /** Forget everything. */
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
