// Captions of a WAV recording, by docs/protocol.md alone. Node 22 or newer (Node 20: node --experimental-websocket):
//
//     node docs/examples/client.mjs ws://127.0.0.1:8000/v1/captions talk.wav [--fast]
//
// Prints a line for each turn. API key: environment variable STREAMER_KEY.

import { readFile } from "node:fs/promises";

const [url, path, pace] = process.argv.slice(2);
const { encoding, rate, channels, frameBytes, data } = readWav(await readFile(path));
const protocols = ["captions.v1", ...(process.env.STREAMER_KEY ? [`auth.${process.env.STREAMER_KEY}`] : [])];
const socket = new WebSocket(url, protocols);
let isOver = false;

socket.onopen = () => send({ type: "start", audio: { encoding, rate, channels } });
socket.onmessage = ({ data: text }) => receive(JSON.parse(text));
socket.onerror = ({ message }) => fail(`no connection to ${url}: ${message ?? "refused"}`);
socket.onclose = ({ code }) => isOver || fail(`closed with ${code} before the end`);

function receive(message) {
  switch (message.type) {
    case "started": return stream().catch((error) => fail(error.message));
    case "caption": return show(message.stable + message.partial);
    case "turn_end": return show(""), console.log(`${message.start_s.toFixed(1)} ${message.text}`);
    case "error": return fail(`${message.code}: ${message.message}`);
    case "bye": isOver = true;
  } // others, and those of a newer daemon, are not needed here
}

/** A tenth of a second at a time, as it is spoken, or as fast as the daemon takes it. */
async function stream() {
  const step = Math.round(rate / 10) * frameBytes;
  for (let at = 0; at < data.length && socket.readyState === WebSocket.OPEN; at += step) {
    socket.send(data.subarray(at, Math.min(at + step, data.length)));
    do await new Promise((resolve) => setTimeout(resolve, pace === "--fast" ? 0 : 100));
    while (socket.bufferedAmount > 20 * step);
  }
  send({ type: "end" });
}

function send(message) {
  socket.send(JSON.stringify(message));
}

/** The open turn, in a line of the terminal that the next one overwrites. */
function show(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text.slice(-process.stderr.columns + 1)}`);
}

function fail(reason) {
  console.error(reason);
  process.exit(1);
}

/** Format and samples of a WAV file: its chunks have a name of four letters and a length, and are padded to even. */
function readWav(file) {
  let format;
  for (let at = 12; at + 8 <= file.length; ) {
    const name = file.toString("latin1", at, at + 4);
    const size = file.readUInt32LE(at + 4);
    if (name === "fmt ") format = { tag: file.readUInt16LE(at + 8), channels: file.readUInt16LE(at + 10), rate: file.readUInt32LE(at + 12), bits: file.readUInt16LE(at + 22) };
    if (name === "data") {
      const encoding = { "1/16": "pcm_s16le", "3/32": "pcm_f32le", "6/8": "alaw", "7/8": "mulaw" }[`${format.tag}/${format.bits}`];
      const frameBytes = (format.bits / 8) * format.channels;
      return { encoding, rate: format.rate, channels: format.channels, frameBytes, data: file.subarray(at + 8, at + 8 + size) };
    }
    at += 8 + size + (size % 2);
  }
  return fail(`${path}: no samples, expected a WAV file`);
}
