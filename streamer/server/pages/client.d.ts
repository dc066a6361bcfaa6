/** Types of client.js: live captions from a streamer daemon. */

export interface AudioFormat {
  encoding: "pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw" | "webm_opus";
  /** Hertz, 8000 to 48000. */
  rate: number;
  channels: number;
}

export interface Place {
  /** Address of `/v1/captions` or of a room; by default on the server that the page came from. */
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
  /** Only ever grows within a turn. */
  stable: string;
  /** May change. */
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

export interface Failure {
  code: string;
  message: string;
}

export type State = "connecting" | "live" | "reconnecting" | "overloaded" | "draining" | "finishing";

export interface WatchEvents {
  caption: Caption;
  turn_end: TurnEnd;
  /** Whether somebody speaks; with another `speaker`, turns are numbered from 0 again. `turns` past ones follow. */
  room: { type: "room"; room: string; speaker: number; live: boolean; turns: number };
  state: State;
  /** Connected: the turns that are kept come (again). */
  joined: undefined;
  end: { error: Failure | null };
  "*": { type: string };
}

export interface CaptionsEvents {
  caption: Caption;
  turn_end: TurnEnd;
  speech: { type: "speech"; state: "started" | "stopped"; at_s: number };
  started: { type: "started"; session: string; resume_from_s: number };
  ack: { type: "ack"; received_s: number; stable_s: number; lag_s: number };
  skipped: { type: "skipped"; start_s: number; end_s: number; reason: string };
  state: State;
  /** Another session goes on after a restart of the server: turns are numbered from 0 again. */
  restart: undefined;
  end: { error: Failure | null };
  "*": { type: string };
}

export class Captions {
  constructor(options: CaptionsOptions);
  /** Seconds of audio given so far. */
  readonly capturedS: number;
  on<T extends keyof CaptionsEvents>(type: T, listener: (event: CaptionsEvents[T]) => void): this;
  /** Audio in the announced format; `endS` is the end of a chunk of a container, in seconds. */
  send(chunk: ArrayBufferView | ArrayBuffer, endS?: number): void;
  update(options: { language?: string; keyterms?: string[]; endpoint_ms?: number }): void;
  /** No more audio comes; resolves once the rest is transcribed. */
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
  /** As webm/opus, an eighth of the data, where the browser can. */
  compressed?: boolean;
}

/** A source of audio; its errors have messages that a person can act on. */
export class Source {
  readonly audio: AudioFormat;
  onChunk: ((chunk: ArrayBufferView | ArrayBuffer, endS: number) => void) | null;
  /** Loudness of the last tenth of a second, in decibels below full scale. */
  onLevel: ((db: number) => void) | null;
  /** It was unplugged, or sharing was stopped. */
  onLost: (() => void) | null;
  /** Stop; what was collected comes first. */
  close(): Promise<void>;
}

export class Microphone extends Source {
  static open(options?: SourceOptions & { deviceId?: string }): Promise<Microphone>;
}

/** The sound of a tab or the screen. */
export class SharedAudio extends Source {
  static open(options?: SourceOptions): Promise<SharedAudio>;
}

export function listMicrophones(): Promise<{ deviceId: string; label: string }[]>;

/** Why this page can have no microphone at all, or null. */
export function microphoneObstacle(): string | null;
