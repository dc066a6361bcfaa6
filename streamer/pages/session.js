// One captions.v1 session that outlives its connections: audio that is not stable text yet is kept, and sent again
// from wherever the server wants it.

const KEPT_S = 120;
const RETRY_MS = [500, 1000, 2000, 5000];
const BROKEN = new Set([1002, 1007, 1009]);

export class Session {
  #options;
  #listener;
  #rate;
  #blocks = []; // { at: index of the first sample, samples }
  #captured = 0; // samples
  #stableS = 0;
  #identity = null; // what `resume` names
  #socket = null;
  #isStarted = false;
  #isEnding = false;
  #isOver = false;
  #failures = 0;
  #retryAfterMs = 0;
  #timer = 0;

  /**
   * options: the fields of `start`, audio included. listener: onState(state), onEvent(event), onRestart() when a new
   * session takes over and numbers its turns from 0, onEnd(message or null), context(): the last words.
   */
  constructor(options, listener) {
    this.#options = options;
    this.#listener = listener;
    this.#rate = options.audio.rate;
    this.#connect("connecting");
  }

  /** Seconds of audio captured so far. */
  get capturedS() {
    return this.#captured / this.#rate;
  }

  /** Take samples; they are sent now or after a reconnection. */
  push(samples) {
    if (this.#isOver) return;
    this.#blocks.push({ at: this.#captured, samples });
    this.#captured += samples.length;
    const oldest = Math.max(this.#stableS, this.capturedS - KEPT_S) * this.#rate;
    while (this.#blocks.length && this.#blocks[0].at + this.#blocks[0].samples.length <= oldest) this.#blocks.shift();
    if (this.#isStarted) this.#socket.send(samples);
  }

  /** No more audio comes; the rest is transcribed, then onEnd. */
  end() {
    this.#isEnding = true;
    if (this.#isStarted) this.#sendEnd();
  }

  #connect(state) {
    this.#listener.onState(state);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.#socket = new WebSocket(`${scheme}://${location.host}/v1/captions`, "captions.v1");
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#socket.onclose = ({ code }) => this.#closed(code);
    this.#retryAfterMs = 0;
  }

  #receive(event) {
    switch (event.type) {
      case "hello": return this.#start();
      case "started": return this.#started(event);
      case "ack": this.#stableS = Math.max(this.#stableS, event.stable_s); break;
      case "draining": this.#isStarted = false; this.#listener.onState("draining"); break;
      case "error": return this.#failed(event);
      case "bye": this.#isOver = this.#isEnding; this.#stableS = Math.max(this.#stableS, event.audio_s); break;
    }
    this.#listener.onEvent(event);
  }

  #start() {
    const resume = this.#identity && { ...this.#identity, stable_s: this.#stableS, context: this.#listener.context() };
    this.#socket.send(JSON.stringify({ type: "start", ...this.#options, ...(resume && { resume }) }));
  }

  #started({ session, resume, resume_from_s }) {
    if (this.#identity && this.#identity.session !== session) this.#listener.onRestart();
    this.#identity = { session, token: resume };
    this.#failures = 0;
    this.#resend(Math.round(resume_from_s * this.#rate));
    this.#isStarted = true;
    this.#listener.onState(this.#isEnding ? "finishing" : "live");
    if (this.#isEnding) this.#sendEnd();
  }

  #resend(from) {
    const first = this.#blocks.length ? this.#blocks[0].at : this.#captured;
    // what was dropped is silence to the server, so that times stay true
    for (let at = from; at < first; at += this.#rate) {
      this.#socket.send(new Int16Array(Math.min(this.#rate, first - at)));
    }
    for (const { at, samples } of this.#blocks) {
      if (at + samples.length > from) this.#socket.send(samples.subarray(Math.max(0, from - at)));
    }
  }

  #sendEnd() {
    this.#listener.onState("finishing");
    this.#socket.send('{"type":"end"}');
  }

  #failed({ code, message, retry_after_s }) {
    if (code === "draining") return;
    if (code === "overloaded") {
      this.#retryAfterMs = 1000 * (retry_after_s ?? 5);
      this.#listener.onState("overloaded");
    } else if (code !== "internal") {
      this.#finish(`The server ended the session: ${message}.`);
    }
  }

  #closed(code) {
    this.#isStarted = false;
    if (this.#isOver) return this.#finish(null);
    if (BROKEN.has(code)) return this.#finish("The server did not understand this page. Reload it and try again.");
    if (!this.#retryAfterMs) this.#listener.onState("reconnecting");
    const pause = this.#retryAfterMs || RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)];
    this.#timer = setTimeout(() => this.#connect(this.#identity ? "reconnecting" : "connecting"), pause);
  }

  /** Give up: also what stops waiting for a server that does not come back. */
  abandon() {
    this.#finish(null);
  }

  #finish(message) {
    clearTimeout(this.#timer);
    this.#isOver = true;
    this.#isStarted = false;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#listener.onEnd(message);
  }
}
