/** Types of client.js: live captions from a streamer daemon. */

export interface AudioFormat {
  encoding: "pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw" | "container" | "opus_packets" | "webm_opus";
  /** Hertz, 8000 to 48000. */
  rate: number;
  channels: number;
}

export interface Place {
  /** Address of `/v1/captions` or of a room; by default on the daemon that this module was imported from. */
  url?: string | URL;
  /** API key or short-lived token. */
  token?: string;
}

export interface CaptionsOptions extends Omit<Place, "token"> {
  token?: string | (() => string | Promise<string>);
  /** Show the captions to the audience of this room, where the server allows it. */
  room?: string;
  audio: AudioFormat;
  language?: string;
  task?: "transcribe" | "translate";
  prompt?: string;
  keyterms?: string[];
  endpoint_ms?: number;
  delay?: "minimal" | "low" | "medium" | "high";
  partials?: boolean;
  words?: boolean;
  /** What `language: "auto"` chooses from. */
  languages?: string[];
  /** Decode each ended turn once more as a whole; a name: with that model. */
  revise?: boolean | string;
}

export interface Word {
  text: string;
  start_s: number;
  end_s: number;
  /** 0 to 1. */
  confidence: number;
  stable: boolean;
}

export interface Caption {
  type: "caption";
  turn: number;
  rev: number;
  /** Stable text; grows within a turn and never changes. */
  stable: string;
  /** Text after `stable`, which may change. */
  partial: string;
  start_s: number;
  end_s: number;
  words?: Word[];
}

export interface TurnEnd {
  type: "turn_end";
  turn: number;
  text: string;
  start_s: number;
  end_s: number;
  language: string;
  reason: "silence" | "flush" | "limit" | "end";
  words?: Word[];
}

/** Another text of a turn that has ended, from its second pass (`revise`). */
export interface TurnRevised {
  type: "turn_revised";
  turn: number;
  text: string;
  language: string;
  reason: "text" | "speakers";
  /** Name of the model of the second pass. */
  model: string;
  words?: Word[];
}

export interface Failure {
  code: string;
  message: string;
}

/** `overloaded`, `failing` and `draining`: the server said why; the connection is opened again, as in `reconnecting`. */
export type State = "connecting" | "live" | "reconnecting" | "overloaded" | "failing" | "draining" | "finishing";

export interface WatchEvents {
  caption: Caption;
  turn_end: TurnEnd;
  turn_revised: TurnRevised;
  /** Whether a session speaks. A new `speaker` numbers its turns from 0. `turns`: past turns and revisions that follow. */
  room: { type: "room"; room: string; speaker: number; live: boolean; turns: number };
  state: State;
  /** Connected: the server sends the turns that it keeps (again). */
  joined: undefined;
  end: { error: Failure | null };
  "*": { type: string };
}

export interface CaptionsEvents {
  caption: Caption;
  turn_end: TurnEnd;
  turn_revised: TurnRevised;
  speech: { type: "speech"; state: "started" | "stopped"; at_s: number };
  started: { type: "started"; session: string; resume_from_s: number };
  ack: { type: "ack"; received_s: number; stable_s: number; lag_s: number };
  skipped: { type: "skipped"; start_s: number; end_s: number; reason: string };
  state: State;
  /** A new session continues after a restart of the server: its turns are numbered from 0. */
  restart: undefined;
  end: { error: Failure | null };
  "*": { type: string };
}

export class Captions {
  constructor(options: CaptionsOptions);
  /** Seconds of audio passed to `send` so far. */
  readonly capturedS: number;
  on<T extends keyof CaptionsEvents>(type: T, listener: (event: CaptionsEvents[T]) => void): this;
  /** Audio in the announced format; `endS` is the end of a chunk of a container, in seconds. */
  send(chunk: ArrayBufferView | ArrayBuffer, endS?: number): void;
  update(options: {
    language?: string;
    languages?: string[];
    keyterms?: string[];
    endpoint_ms?: number;
    revise?: boolean | string;
  }): void;
  /** End the audio; resolves once the tail is transcribed. */
  end(): Promise<{ error: Failure | null }>;
  /** Leave at once. */
  abandon(): void;
}

/** The captions of a room, read-only. */
export class Watch {
  constructor(options: Place & { room?: string });
  on<T extends keyof WatchEvents>(type: T, listener: (event: WatchEvents[T]) => void): this;
  close(): void;
}

export interface SourceOptions {
  /** Send webm/opus, an eighth of the data, if the browser can record it. */
  compressed?: boolean;
}

/** A source of audio; messages of its errors say what to do. */
export class Source {
  readonly audio: AudioFormat;
  onChunk: ((chunk: ArrayBufferView | ArrayBuffer, endS: number) => void) | null;
  /** Loudness of the last tenth of a second, in decibels below full scale. */
  onLevel: ((db: number) => void) | null;
  /** Called when the microphone was unplugged or sharing was stopped. */
  onLost: (() => void) | null;
  /** Called with true when the microphone is muted, or gave nothing but zeros for 5 seconds; with false when it is heard again. */
  onSilence: ((isSilent: boolean) => void) | null;
  /** Go on with a microphone, in the same recording and format. */
  switchToMicrophone(options?: { deviceId?: string }): Promise<void>;
  /** Go on with the sound of a tab or the screen, in the same recording and format. */
  switchToSharedAudio(): Promise<void>;
  /** Stop; the collected audio is delivered first. */
  close(): Promise<void>;
}

export class Microphone extends Source {
  static open(options?: SourceOptions & { deviceId?: string }): Promise<Microphone>;
}

/** The sound of a tab or the screen. */
export class SharedAudio extends Source {
  static open(options?: SourceOptions): Promise<SharedAudio>;
}

/** Whether this browser can send webm/opus. */
export function canCompress(): boolean;

export function listMicrophones(): Promise<{ deviceId: string; label: string }[]>;

/** Why browsers give this page no microphone; null: they do. */
export function microphoneObstacle(): string | null;
