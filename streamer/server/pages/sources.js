// Audio sources: the microphone, or the sound of a tab or the screen. They deliver blocks of 100 ms as 16-bit samples at
// the rate of the audio hardware, or webm/opus.

import { Silence } from "./silence.js";

const MAX_RATE = 48000;
const WEBM = "audio/webm;codecs=opus";
const WEBM_BITS_PER_S = 32000;
const WEBM_CHUNK_MS = 200;

class Source {
  onChunk = null;
  onLevel = null;
  onLost = null;
  onSilence = null;
  #waiting = []; // chunks from before onChunk was set
  #context;
  #stream = null;
  #input = null;
  #sinks = [];
  #node;
  #recorder = null;
  #isDrained;
  #encoded = Promise.resolve();
  #samples = 0;
  #silence = null; // of a microphone; what a tab plays may well be silent
  #isSilent = false;

  /** Read `stream`. Throws an Error whose message says what to do. */
  async _read(stream, { compressed = false, isMicrophone = false } = {}) {
    try {
      await this.#openWorklet(compressed);
      this.#connect(stream, isMicrophone);
    } catch (error) {
      stop(stream);
      await this.close();
      throw new Error(`The sound could not be read (${error.message}).`);
    }
    return this;
  }

  /** Go on with a microphone, in the same recording and format. */
  async switchToMicrophone({ deviceId = "" } = {}) {
    this.#replace(await openMicrophone(deviceId), true);
  }

  /** Go on with the sound of a tab or the screen, in the same recording and format. */
  async switchToSharedAudio() {
    this.#replace(await openShared(), false);
  }

  /** The audio format for `start`. */
  get audio() {
    if (this.#recorder) return { encoding: "webm_opus", rate: MAX_RATE, channels: 1 };
    return { encoding: "pcm_s16le", rate: this.#context.sampleRate, channels: 1 };
  }

  /** Stop; the collected audio is delivered first. */
  async close() {
    const isStopped = this.#recorder && new Promise((resolve) => (this.#recorder.onstop = resolve));
    if (this.#recorder && this.#recorder.state !== "inactive") this.#recorder.stop();
    else if (isStopped) this.#recorder.onstop();
    await isStopped;
    if (this.#stream) stop(this.#stream);
    if (this.#node) {
      this.#node.port.postMessage("close");
      await this.#isDrained;
    }
    if (this.#context?.state !== "closed") await this.#context?.close();
    await this.#encoded;
  }

  async #openWorklet(isCompressed) {
    this.#context = new AudioContext();
    if (this.#context.sampleRate > MAX_RATE) {
      await this.#context.close();
      this.#context = new AudioContext({ sampleRate: MAX_RATE });
    }
    await this.#context.resume();
    await this.#context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.#context, "collector", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    this.#isDrained = new Promise((resolve) => {
      node.port.onmessage = ({ data }) => (data ? this.#take(data) : resolve());
    });
    this.#node = node;
    this.#sinks = [node];
    if (isCompressed && canCompress()) this.#record();
  }

  #replace(stream, isMicrophone) {
    try {
      this.#connect(stream, isMicrophone);
    } catch {
      stop(stream);
      throw new Error("This browser cannot change to that sound while captions run. Press Stop, choose it, and press Start.");
    }
  }

  /** Read a stream instead of the one before. */
  #connect(stream, isMicrophone) {
    if (this.#context.state === "closed") throw new Error("the recording is over");
    const input = this.#context.createMediaStreamSource(stream);
    this.#input?.disconnect();
    if (this.#stream) stop(this.#stream);
    for (const sink of this.#sinks) input.connect(sink);
    const [track] = stream.getAudioTracks();
    track.onended = () => this.onLost?.();
    track.onmute = track.onunmute = () => this.#listen([]);
    this.#input = input;
    this.#stream = stream;
    this.#silence = isMicrophone ? new Silence(this.#context.sampleRate) : null;
    this.#listen([]);
  }

  /** Tell when a microphone falls silent, and when it is heard again. */
  #listen(samples) {
    const isMuted = this.#stream.getAudioTracks()[0].muted;
    const isSilent = this.#silence !== null && (this.#silence.hears(samples) || isMuted);
    if (isSilent === this.#isSilent) return;
    this.#isSilent = isSilent;
    this.onSilence?.(isSilent);
  }

  // the worklet runs beside a recorder too: it measures the level and counts the samples
  #take(samples) {
    this.#samples += samples.length;
    this.onLevel?.(decibels(samples));
    this.#listen(samples);
    if (!this.#recorder) this.#deliver(samples);
  }

  #record() {
    // a recorder cannot change its stream: it records a node, whose inputs can change
    const mixed = new MediaStreamAudioDestinationNode(this.#context, { channelCount: 1, channelCountMode: "explicit" });
    this.#sinks.push(mixed);
    this.#recorder = new MediaRecorder(mixed.stream, { mimeType: WEBM, audioBitsPerSecond: WEBM_BITS_PER_S });
    this.#recorder.ondataavailable = ({ data }) => {
      // one after the other, to keep the chunks in order
      this.#encoded = this.#encoded.then(async () => this.#deliver(new Uint8Array(await data.arrayBuffer())));
    };
    this.#recorder.start(WEBM_CHUNK_MS);
  }

  #deliver(chunk) {
    this.#waiting.push([chunk, this.#samples / this.#context.sampleRate]);
    if (this.onChunk) this.#waiting.splice(0).forEach(([taken, endS]) => this.onChunk(taken, endS));
  }
}

export class Microphone extends Source {
  /** Ask for the microphone. */
  static async open({ deviceId = "", compressed = false } = {}) {
    return new Microphone()._read(await openMicrophone(deviceId), { compressed, isMicrophone: true });
  }
}

export class SharedAudio extends Source {
  /** Ask for the sound of a tab or the screen. */
  static async open({ compressed = false } = {}) {
    return new SharedAudio()._read(await openShared(), { compressed });
  }
}

/** Whether this browser can send webm/opus. */
export function canCompress() {
  return globalThis.MediaRecorder?.isTypeSupported(WEBM) ?? false;
}

/** List the microphones; browsers tell their names only after permission was given. */
export async function listMicrophones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId && deviceId !== "default" && label);
}

/** Why browsers give this page no microphone; null: they do. */
export function microphoneObstacle() {
  if (window.isSecureContext) return null;
  return (
    `Browsers give the microphone only to pages on https or on this very machine, and this page came from ${location.origin}. ` +
    `Open http://localhost:${location.port || 80} on the machine that runs the daemon, or put https in front of it.`
  );
}

async function openMicrophone(deviceId) {
  return ask(() => navigator.mediaDevices.getUserMedia({ audio: constraints(deviceId) }), MICROPHONE_TROUBLES);
}

async function openShared() {
  if (!navigator.mediaDevices?.getDisplayMedia) {
    throw new Error("This browser cannot share the sound of a tab or the screen; Chrome and Edge on a computer can.");
  }
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, suppressLocalAudioPlayback: false };
  // browsers share sound only together with a picture, which is not used
  const stream = await ask(() => navigator.mediaDevices.getDisplayMedia({ video: true, audio: plain, systemAudio: "include" }), SHARING_TROUBLES);
  if (!stream.getAudioTracks().length) {
    stop(stream);
    throw new Error("What was shared has no sound. Share a tab, and tick “Also share tab audio”.");
  }
  return stream;
}

function stop(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

function constraints(deviceId) {
  // noise suppression for calls costs recognition accuracy
  const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return deviceId ? { ...plain, deviceId: { exact: deviceId } } : plain;
}

async function ask(open, troubles) {
  try {
    return await open();
  } catch (error) {
    throw new Error(troubles[error.name] ?? `The sound could not be opened (${error.message}).`);
  }
}

const MICROPHONE_TROUBLES = {
  NotAllowedError: "The microphone was not allowed. Allow it for this page in the browser's address bar, and try again.",
  NotFoundError: "No microphone was found. Plug one in, and try again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one.",
  NotReadableError: "The microphone is in use by another program, or the system does not let the browser read it.",
};

const SHARING_TROUBLES = {
  NotAllowedError: "Nothing was shared. Try again, and choose a tab or a screen with sound.",
  NotFoundError: "There is nothing whose sound could be shared.",
  NotReadableError: "The system does not let the browser share that. Choose a tab instead.",
};

function decibels(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return 10 * Math.log10(sum / samples.length / 32768 ** 2 + 1e-9);
}
