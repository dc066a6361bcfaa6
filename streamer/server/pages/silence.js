// Tells a microphone that gives no sound at all, as one that is muted does, from one in a quiet room.

const SILENT_S = 5; // of zeros alone: a room that is ever so quiet gives noise

export class Silence {
  #rate;
  #zeros = 0; // samples since the last one that was not zero

  /** `rate`: samples of a second. */
  constructor(rate) {
    this.#rate = rate;
  }

  /** Take a block of samples; return whether nothing was heard for `SILENT_S`. */
  hears(samples) {
    this.#zeros = samples.some((sample) => sample !== 0) ? 0 : this.#zeros + samples.length;
    return this.#zeros >= SILENT_S * this.#rate;
  }
}
