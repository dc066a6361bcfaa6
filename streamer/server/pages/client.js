// Client of a streamer daemon: a session of live captions that survives reconnections, and viewers of rooms. Has no
// dependencies.
//
//     import { Captions, Microphone } from "/pages/client.js";
//
//     const microphone = await Microphone.open();
//     const captions = new Captions({ audio: microphone.audio, language: "en" });
//     captions.on("caption", ({ stable, partial }) => show(stable, partial));
//     captions.on("turn_end", ({ text }) => keep(text));
//     captions.on("end", ({ error }) => error && console.error(error.message));
//     microphone.onChunk = (chunk, endS) => captions.send(chunk, endS);
//     // later
//     await microphone.close();
//     await captions.end();
//
// Audio whose text is not stable yet is kept; after a reconnection it is sent again from where the server asks for it.
// Types: client.d.ts.

export { Microphone, SharedAudio, canCompress, listMicrophones, microphoneObstacle } from "./sources.js";

const KEPT_S = 120;
const KEPT_BYTES = 16 * 2 ** 20; // of a container file, about an hour; it can be sent again only as a whole
const END_TOLERANCE_S = 0.1; // rounding, not audio that the server has missed
const RETRY_MS = [500, 1000, 2000, 5000];
// errors after which the connection is opened again -> the state until it is
const PASSING = { overloaded: "overloaded", internal: "failing", draining: "draining" };
const BROKEN = new Set([1002, 1007, 1009]);
const SAMPLE_BYTES = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
const CONTEXT_LETTERS = 200;
const MAX_PAST_TURNS = 2000;
const MAX_LETTERS = 4096; // of a text that the server takes
const SENDABLE = /^[\w!#$%&'*+.^`|~-]*$/; // a key travels as a subprotocol, in which a browser allows these letters alone
const UNSENDABLE = { code: "unauthorized", message: "this key has letters that no page can send" };

/** Calls listeners by event type. */
class Emitter {
  #listeners = {};

  /** Call `listener` for every event of a type; "*": every message of the server. */
  on(type, listener) {
    (this.#listeners[type] ??= []).push(listener);
    return this;
  }

  _emit(type, event) {
    this.#listeners[type]?.forEach((listener) => listener(event));
  }
}

export class Captions extends Emitter {
  #address;
  #token;
  #options;
  #updates = null; // all that was changed since
  #kept;
  #stableS = 0;
  #capturedS = 0;
  #text = new Text();
  #past = null; // what was said, where a room shows it
  #identity = null; // session and token, for `resume`
  #unanswered = null; // those of the first `start`, until one is answered: it may have opened its session all the same
  #socket = null;
  #isStarted = false;
  #isDraining = false;
  #isEnding = false;
  #isOver = false;
  #error = null;
  #failures = 0;
  #retryAfterMs = 0;
  #isExplained = false; // the server said why it closes the connection
  #timer = 0;
  #ended;

  /** `audio` and other fields of `start`; `url`, `token` and `room` address the server. */
  constructor({ url, token, room, ...options }) {
    super();
    this.#address = address(url, "v1/captions");
    if (room) this.#address.searchParams.set("room", room);
    if (this.#address.searchParams.has("room")) this.#past = new Past();
    this.#token = token;
    this.#options = options;
    this.#kept = isPlain(options.audio) ? new Samples(options.audio) : new Container();
    this.#ended = new Promise((resolve) => this.on("end", resolve));
    // after the caller has added its listeners
    queueMicrotask(() => {
      this._emit("state", "connecting");
      this.#connect();
    });
  }

  /** Seconds of audio passed to `send` so far. */
  get capturedS() {
    return this.#capturedS;
  }

  /** Send audio now, or after a reconnection. `endS`: end of a chunk of a container, seconds. */
  send(chunk, endS) {
    if (this.#isOver) return;
    this.#capturedS = this.#kept.add(chunk, endS);
    this.#kept.forget(Math.max(this.#stableS, this.#capturedS - KEPT_S));
    if (this.#isStarted) this.#socket.send(chunk);
  }

  /** Change options during the session: language, languages, keyterms, endpoint_ms, revise. */
  update(options) {
    Object.assign(this.#options, options);
    this.#updates = { ...this.#updates, ...options };
    if (this.#isStarted) this.#socket.send(JSON.stringify({ type: "update", ...options }));
  }

  /** End the audio. Resolves once the tail is transcribed, with the error if there was one. */
  end() {
    this.#isEnding = true;
    if (this.#isStarted) this.#sendEnd();
    return this.#ended;
  }

  /** Leave at once; also stops the wait for a server that does not come back. */
  abandon() {
    this.#finish(null);
  }

  async #connect() {
    this.#retryAfterMs = 0;
    this.#isExplained = false;
    const token = await this.#askToken();
    if (this.#isOver) return;
    if (token === null) return this.#closed();
    if (!SENDABLE.test(token)) return this.#finish(UNSENDABLE);
    this.#isDraining = false;
    this.#socket = new WebSocket(this.#address, protocols(token));
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#socket.onclose = ({ code }) => this.#closed(code);
  }

  /** "": no token; null: whoever gives tokens cannot be asked now, and is asked again at the next attempt. */
  async #askToken() {
    try {
      return (typeof this.#token === "function" ? await this.#token() : this.#token) ?? "";
    } catch {
      return null;
    }
  }

  #receive(event) {
    this.#text.apply(event);
    this.#past?.apply(event);
    switch (event.type) {
      case "hello": return this.#start(event);
      case "started": this.#started(event); break;
      case "ack": this.#reach(event.stable_s); break;
      case "caption": this.#reach(event.words?.findLast(({ stable }) => stable)?.end_s); break;
      case "turn_end": this.#reach(event.end_s); break;
      case "draining": this.#drain(); break;
      case "error": if (event.fatal) return this.#failed(event); break;
      case "bye": this.#bye(event.audio_s); break;
    }
    this._emit(event.type, event);
    this._emit("*", event);
  }

  #drain() {
    this.#isStarted = false;
    this.#isDraining = true;
    this.#explain("draining");
  }

  /** It answers the end, unless the server stops before it has got all audio: then the next one gets the rest. */
  #bye(audioS) {
    const isCut = this.#isDraining && audioS < this.#capturedS - END_TOLERANCE_S;
    this.#isOver = this.#isEnding && !isCut;
    this.#reach(audioS);
  }

  /** Text is stable up to this time: a new session continues from there. */
  #reach(seconds = 0) {
    this.#stableS = Math.max(this.#stableS, seconds);
  }

  #start({ session, resume: token, limits }) {
    const past = this.#past?.told(limits.max_frame_bytes / 2); // the options need room too
    const known = this.#identity ?? this.#unanswered;
    this.#unanswered ??= { session, token };
    const resume = known && { ...known, stable_s: this.#stableS, context: this.#text.context, ...past };
    this.#socket.send(JSON.stringify({ type: "start", ...this.#options, ...(resume && { resume }) }));
  }

  #started({ session, resume, resume_from_s }) {
    if (this.#identity && this.#identity.session !== session) {
      this.#past?.restart();
      this._emit("restart");
    }
    this.#identity = { session, token: resume };
    this.#failures = 0;
    // a session that is known goes on with its own options, and a change may have been lost
    if (this.#updates) this.#socket.send(JSON.stringify({ type: "update", ...this.#updates }));
    for (const chunk of this.#kept.from(resume_from_s)) this.#socket.send(chunk);
    this.#isStarted = true;
    this._emit("state", this.#isEnding ? "finishing" : "live");
    if (this.#isEnding) this.#sendEnd();
  }

  #sendEnd() {
    this._emit("state", "finishing");
    this.#socket.send('{"type":"end"}');
  }

  #failed({ code, message, retry_after_s }) {
    if (code === "overloaded") this.#retryAfterMs = 1000 * (retry_after_s ?? 5);
    if (PASSING[code]) this.#explain(PASSING[code]);
    else this.#error = { code, message }; // the end comes with the close: after `idle` there is a tail
  }

  /** A state that the server gave the reason for holds until the next attempt has an outcome. */
  #explain(state) {
    this.#isExplained = true;
    this._emit("state", state);
  }

  #closed(code) {
    this.#isStarted = false;
    if (this.#isOver || this.#error) return this.#finish(this.#error);
    if (BROKEN.has(code)) return this.#finish({ code: "broken", message: "client and server do not understand each other" });
    if (this.#kept.isIncomplete) return this.#finish({ code: "too_long", message: "too much audio to send it again" });
    if (!this.#isExplained) this._emit("state", "reconnecting");
    const pause = this.#retryAfterMs || RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)];
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #finish(error) {
    clearTimeout(this.#timer);
    this.#isOver = true;
    this.#isStarted = false;
    if (this.#socket) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close(1000); // the session is given up; without a code the server would keep it
    }
    this._emit("end", { error });
  }
}

/** The captions of a room, read-only: "caption", "turn_end", "room" and "state" until `close`. */
export class Watch extends Emitter {
  #socket = null;
  #address;
  #token;
  #failures = 0;
  #timer = 0;
  #isClosed = false;

  constructor({ url, token, room = "microphone" }) {
    super();
    this.#address = address(url, `v1/watch/${encodeURIComponent(room)}`);
    this.#token = token;
    queueMicrotask(() => {
      if (!this.#isClosed) this._emit("state", "connecting");
      this.#connect();
    });
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #connect() {
    if (this.#isClosed) return;
    let error = null;
    let isJoined = false;
    if (!SENDABLE.test(this.#token ?? "")) return this._emit("end", { error: UNSENDABLE });
    this.#socket = new WebSocket(this.#address, protocols(this.#token));
    this.#socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "error") error = event;
      else if (!isJoined) isJoined = this.#joined();
      this._emit(event.type, event);
      this._emit("*", event);
    };
    this.#socket.onclose = () => {
      if (error && !PASSING[error.code]) return this._emit("end", { error });
      const isFull = error?.code === "overloaded";
      const pause = isFull ? 1000 * (error.retry_after_s ?? 5) : RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)];
      this.#failures += 1;
      this._emit("state", error ? PASSING[error.code] : "reconnecting");
      this.#timer = setTimeout(() => this.#connect(), pause);
    };
  }

  /** The server sends all turns that it keeps again: listeners clear what they show. */
  #joined() {
    this.#failures = 0;
    this._emit("joined");
    this._emit("state", "live");
    return true;
  }
}

/** Plain samples that may have to be sent again. */
class Samples {
  #rate;
  #frameBytes;
  #chunks = []; // { at: index of the first sample, chunk }
  #captured = 0;
  isIncomplete = false;

  constructor({ encoding = "pcm_s16le", rate = 16000, channels = 1 } = {}) {
    this.#rate = rate;
    this.#frameBytes = SAMPLE_BYTES[encoding] * channels;
  }

  add(chunk) {
    this.#chunks.push({ at: this.#captured, chunk });
    this.#captured += chunk.byteLength / this.#frameBytes;
    return this.#captured / this.#rate;
  }

  forget(untilS) {
    const oldest = untilS * this.#rate;
    const length = ({ chunk }) => chunk.byteLength / this.#frameBytes;
    while (this.#chunks.length && this.#chunks[0].at + length(this.#chunks[0]) <= oldest) this.#chunks.shift();
  }

  *from(seconds) {
    const from = Math.round(seconds * this.#rate);
    const first = this.#chunks.length ? this.#chunks[0].at : this.#captured;
    // silence replaces dropped audio, so that times stay right
    for (let at = from; at < first; at += this.#rate) {
      yield new Uint8Array(Math.min(this.#rate, first - at) * this.#frameBytes);
    }
    for (const { at, chunk } of this.#chunks) {
      const bytes = new Uint8Array(chunk.buffer ?? chunk, chunk.byteOffset ?? 0, chunk.byteLength);
      const skipped = Math.max(0, from - at) * this.#frameBytes;
      if (skipped < bytes.length) yield bytes.subarray(skipped);
    }
  }
}

/** Whether the audio is plain samples, which can be sent again in part. */
function isPlain({ encoding = "pcm_s16le" } = {}) {
  return encoding in SAMPLE_BYTES;
}

/** A recording in a container: it can be read only as a whole; the server skips the audio that it has. */
class Container {
  #chunks = [];
  #bytes = 0;

  get isIncomplete() {
    return this.#bytes > KEPT_BYTES;
  }

  add(chunk, endS) {
    this.#bytes += chunk.byteLength;
    if (this.isIncomplete) this.#chunks = [];
    else this.#chunks.push(chunk);
    return endS;
  }

  forget() {}

  from() {
    return this.#chunks;
  }
}

/** The last stable words, as context for a server that does not know the session. */
class Text {
  #final = "";
  #open = "";

  apply({ type, stable, text }) {
    if (type === "caption") this.#open = stable;
    if (type !== "turn_end") return;
    this.#final = `${this.#final} ${text}`.slice(-CONTEXT_LETTERS);
    this.#open = "";
  }

  get context() {
    return `${this.#final} ${this.#open}`.slice(-CONTEXT_LETTERS).trim();
  }
}

/** What was said, for the viewers of a room that a restarted server has forgotten. Turns count on over its sessions. */
class Past {
  #turns = new Map();
  #open = null;
  #first = 0; // number of the present session's turn 0

  apply(event) {
    const turn = this.#first + event.turn;
    if (event.type === "caption" && !this.#turns.has(turn)) this.#open = told({ ...event, turn, text: event.stable });
    if (event.type === "turn_revised" && this.#turns.has(turn)) this.#turns.set(turn, told({ ...this.#turns.get(turn), text: event.text }));
    if (event.type !== "turn_end") return;
    this.#turns.set(turn, told({ ...event, turn }));
    this.#turns.delete(turn - MAX_PAST_TURNS);
    this.#open = null;
  }

  /** A new session continues: the open turn ends with its stable words. */
  restart() {
    if (this.#open?.text) this.#turns.set(this.#open.turn, this.#open);
    this.#open = null;
    this.#first = 1 + ([...this.#turns.keys()].at(-1) ?? -1);
  }

  /** Fields of `resume`: the newest turns that fit into so many bytes. */
  told(maxBytes) {
    const all = [...this.#turns.values(), ...(this.#open?.text ? [{ ...this.#open, open: true }] : [])].slice(-MAX_PAST_TURNS);
    const bytes = (turn) => new TextEncoder().encode(JSON.stringify(turn)).length + 1;
    let from = all.length;
    for (let left = maxBytes; from > 0 && (left -= bytes(all[from - 1])) >= 0; ) from -= 1;
    return { turns: all.slice(from), first_turn: this.#first };
  }
}

function told({ turn, text, start_s, end_s, language = "" }) {
  return { turn, text: text.length > MAX_LETTERS ? [...text].slice(0, MAX_LETTERS).join("") : text, start_s, end_s, language };
}

/** By default on the daemon that served this module as `pages/client.js`; for a copy, at the root of the page's server. */
function address(url, path) {
  const [module, page] = [import.meta.url, globalThis.location?.href];
  const root = /^https?:[^?#]*\/pages\/client\.js([?#]|$)/.test(module) ? new URL("..", module) : page && new URL("/", page);
  const found = url ? new URL(url, page) : new URL(path, root);
  found.protocol = found.protocol.replace("http", "ws");
  return found;
}

function protocols(token) {
  return token ? ["captions.v1", `auth.${token}`] : ["captions.v1"];
}
