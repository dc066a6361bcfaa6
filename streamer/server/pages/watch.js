// Captions of a room for an audience, read-only: /watch/ROOM, by default the room of the daemon's microphone.

import { CaptionView } from "./caption-view.js";
import { Watch } from "./client.js";
import { Display } from "./display.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";

const $ = (id) => document.getElementById(id);
const room = decodeURIComponent(location.pathname.split("/")[2] || "microphone");
const TROUBLES = {
  no_microphone: "This server captions no microphone. Whoever runs it can start it with --mic.",
  no_rooms: "This server has no audience rooms. Whoever runs it can set server.rooms = true.",
  bad_room: "This address names no room: letters, digits, - and _ make one.",
  unauthorized: "This server shows captions only to who has a key; put it at the end of the address: #key=…",
};

const turns = new Turns();
const view = new CaptionView($("stage"));
const transcript = new Transcript($("transcript"), turns);
let speaker = -1;

function receive(event) {
  const turn = turns.apply(event);
  if (!turn) return;
  view.show(turn);
  if (turn.isFinal) transcript.append(turn);
}

function follow(event) {
  if (event.speaker !== speaker) clear();
  speaker = event.speaker;
  show(event.live ? "live" : "waiting", event.live ? "Live" : "Nobody is speaking yet");
}

function clear() {
  turns.clear();
  view.clear();
  transcript.clear();
}

function show(look, text) {
  $("status").dataset.state = look;
  $("status").textContent = text;
}

function explain({ error }) {
  show("ready", "No captions");
  $("notice").textContent = TROUBLES[error.code] ?? `The server ended the captions: ${error.message}.`;
  $("notice").hidden = false;
}

$("title").textContent = room;
document.title = `Captions: ${room}`;
new Display($("display"), () => view.settle());
// the key stands after the #: a browser sends that part to no server
new Watch({ room, token: new URLSearchParams(location.hash.slice(1)).get("key") })
  .on("joined", () => (speaker = -1))
  .on("room", follow)
  .on("*", receive)
  .on("state", (state) => {
    if (state === "overloaded") show("waiting", "Full, waiting…");
    if (state === "reconnecting") show("waiting", "Reconnecting…");
  })
  .on("end", explain);
