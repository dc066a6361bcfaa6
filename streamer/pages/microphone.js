// The microphone as 100 ms blocks of 16-bit samples, at whatever rate the audio hardware runs.

const MAX_RATE = 48000;

export class Microphone {
  #context;
  #stream;
  #node;
  #isDrained;

  /** Ask for the microphone. Throws an Error whose message a person can act on. */
  static async open(deviceId, { onSamples, onLost }) {
    const microphone = new Microphone();
    try {
      microphone.#stream = await navigator.mediaDevices.getUserMedia({ audio: constraints(deviceId) });
    } catch (error) {
      throw new Error(explanation(error));
    }
    try {
      await microphone.#connect(onSamples, onLost);
    } catch (error) {
      await microphone.close();
      throw new Error(`The microphone could not be read (${error.message}).`);
    }
    return microphone;
  }

  /** Samples per second. */
  get rate() {
    return this.#context.sampleRate;
  }

  /** Stop; what was collected comes first. */
  async close() {
    this.#stream.getTracks().forEach((track) => track.stop());
    if (this.#node) {
      this.#node.port.postMessage("close");
      await this.#isDrained;
    }
    await this.#context?.close();
  }

  async #connect(onSamples, onLost) {
    this.#context = new AudioContext();
    if (this.#context.sampleRate > MAX_RATE) {
      await this.#context.close();
      this.#context = new AudioContext({ sampleRate: MAX_RATE });
    }
    await this.#context.resume();
    await this.#context.audioWorklet.addModule("/pages/worklet.js");
    const node = new AudioWorkletNode(this.#context, "collector", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    this.#isDrained = new Promise((resolve) => {
      node.port.onmessage = ({ data }) => (data ? onSamples(data) : resolve());
    });
    this.#context.createMediaStreamSource(this.#stream).connect(node);
    this.#stream.getAudioTracks()[0].onended = onLost;
    this.#node = node;
  }
}

/** The microphones there are; names are known only once permission was given. */
export async function listMicrophones() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId && deviceId !== "default" && label);
}

/** Why this page can have no microphone at all, or null. */
export function microphoneObstacle() {
  if (window.isSecureContext) return null;
  return (
    `Browsers give the microphone only to pages on https or on this very machine, and this page came from ${location.origin}. ` +
    `Open http://localhost:${location.port || 80} on the machine that runs the daemon, or put https in front of it.`
  );
}

function constraints(deviceId) {
  // the cleaning that calls need costs recognition accuracy
  const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return deviceId ? { ...plain, deviceId: { exact: deviceId } } : plain;
}

function explanation(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone was not allowed. Allow it for this page in the browser's address bar, then press Start again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, then press Start again.";
    case "OverconstrainedError":
      return "The chosen microphone is gone. Choose another one, then press Start again.";
    case "NotReadableError":
      return "The microphone is in use by another program, or the system does not let the browser read it.";
    default:
      return `The microphone could not be opened (${error.message}).`;
  }
}
