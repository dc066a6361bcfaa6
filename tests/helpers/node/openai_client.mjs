// OpenAI's npm library against a daemon: node openai_client.mjs BASE_URL RECORDING PCM_24K
// Prints one JSON object with what it was told.

import fs from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { WebSocket } from "ws";

// the library's browser class takes the WebSocket of the page
globalThis.WebSocket = WebSocket;

const [baseURL, recording, pcm] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", dangerouslyAllowBrowser: true, maxRetries: 0 });

const file = () => fs.createReadStream(recording);
const verbose = await client.audio.transcriptions.create({
  file: file(),
  model: "any",
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
});
const streamed = [];
for await (const event of await client.audio.transcriptions.create({ file: file(), model: "any", stream: true }))
  streamed.push(event);
const refused = await client.audio.transcriptions
  .create({ file: file(), model: "any", language: "xx" })
  .catch((error) => ({ status: error.status, code: error.code, param: error.param }));
const models = [];
for await (const model of client.models.list()) models.push(model.id);

// as a page does: a short-lived secret, shown in a subprotocol
const secret = await client.realtime.clientSecrets.create({
  session: { type: "transcription", audio: { input: { turn_detection: null } } },
});
const page = new OpenAI({ baseURL, apiKey: secret.value, dangerouslyAllowBrowser: true });
const events = await new Promise((resolve, reject) => {
  const heard = [];
  const live = new OpenAIRealtimeWebSocket(
    { model: "any", dangerouslyAllowBrowser: true, onURL: (url) => (url.protocol = "ws:") },
    page,
  );
  live.on("error", reject);
  live.on("event", (event) => heard.push(event));
  live.on("session.created", () => {
    const audio = fs.readFileSync(pcm);
    for (let at = 0; at < audio.length; at += 4800)
      live.send({ type: "input_audio_buffer.append", audio: audio.subarray(at, at + 4800).toString("base64") });
    live.send({ type: "input_audio_buffer.commit" });
  });
  live.on("conversation.item.input_audio_transcription.completed", () => {
    live.close();
    resolve(heard);
  });
});

console.log(JSON.stringify({ verbose, streamed, refused, models, events }));
