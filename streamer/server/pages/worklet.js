// Runs on the audio thread: collects blocks of 100 ms as 16-bit samples and posts them to the page.

class Collector extends AudioWorkletProcessor {
  #block = new Int16Array(Math.round(sampleRate / 10));
  #filled = 0;
  #isOpen = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#isOpen = false;
      this.#deliver();
      this.port.postMessage(null);
    };
  }

  process([channels]) {
    if (!this.#isOpen) return false;
    // no channel: the source delivers nothing yet
    for (const sample of channels[0] ?? []) {
      const bounded = Math.max(-1, Math.min(1, sample));
      this.#block[this.#filled++] = bounded * 32767;
      if (this.#filled === this.#block.length) this.#deliver();
    }
    return true;
  }

  #deliver() {
    const samples = this.#block.slice(0, this.#filled);
    this.#filled = 0;
    if (samples.length) this.port.postMessage(samples, [samples.buffer]);
  }
}

registerProcessor("collector", Collector);
