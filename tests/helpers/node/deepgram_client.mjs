// @deepgram/sdk against a daemon: what it is told of a recording, as JSON.
// usage: node deepgram_client.mjs BASE_URL PCM_FILE
import fs from "node:fs";
import { DeepgramClient } from "@deepgram/sdk";

const [base, pcm] = process.argv.slice(2);
const ws = base.replace("http", "ws");
const client = new DeepgramClient({
  apiKey: "any",
  environment: { base, production: ws, agent: ws, agentRest: base },
});
const connection = await client.listen.v1.connect({
  model: "any",
  encoding: "linear16",
  sample_rate: "16000",
  interim_results: "true",
  reconnectAttempts: 0,
});
const heard = [];
const closed = new Promise((resolve, reject) => {
  connection.on("message", (message) => heard.push(message));
  connection.on("error", reject);
  connection.on("close", resolve);
});
connection.connect();
await connection.waitForOpen();
const audio = fs.readFileSync(pcm);
for (let at = 0; at < audio.length; at += 3200) connection.sendMedia(audio.subarray(at, at + 3200));
connection.sendFinalize({ type: "Finalize" });
connection.sendCloseStream({ type: "CloseStream" });
await closed;
console.log(JSON.stringify(heard));
process.exit(0);
