// Captions of a room for an audience, read-only: /watch/ROOM, by default the room of the daemon's microphone.

import { CaptionView } from "./caption-view.js";
import { Watch } from "./client.js";
import { Display } from "./display.js";
import { askKey, pageKey } from "./key.js";
import { addressOf, connectionTrouble } from "./server.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";
import { WakeLock } from "./wake-lock.js";

const KEPT = 2100; // turns: more than the server sends again after a lost connection, so that it sends none that was forgotten
const $ = (id) => document.getElementById(id);
const room = location.pathname.slice(addressOf("watch/").pathname.length) || "microphone";
const PASSING = {
  overloaded: ["Full, waiting…", "The server has no place for more viewers."],
  failing: ["Reconnecting…", "The server failed. Its log says why."],
  draining: ["Reconnecting…", "The server restarts."],
};
const TROUBLES = {
  no_microphone: "This server captions no microphone. Whoever runs it can start it with --mic.",
  no_rooms: "This server has no audience rooms. Whoever runs it can set server.rooms = true.",
  bad_room: "This address names no room: letters, digits, - and _ make one.",
  unauthorized: "The server did not accept the key. Check it, or ask whoever sent you here for a new one.",
  forbidden: "This key may not watch. Ask whoever sent you here for one that may.",
};

const turns = new Turns();
const view = new CaptionView($("stage"));
const transcript = new Transcript($("transcript"), turns);
const wakeLock = new WakeLock();
let speaker = -1;
let nMissing = 0; // sentences that are not shown
let isJoined = false;
let isComparing = false; // whether turns that come may be those of another daemon, which counts from 0 again

function join() {
  new Watch({ room, token: pageKey() })
    .on("joined", () => { isComparing = true; notify(null); })
    .on("room", follow)
    .on("*", receive)
    .on("state", showState)
    .on("end", explain);
}

function receive(event) {
  if (isComparing && event.turn !== undefined) compare(event);
  const turn = turns.apply(event);
  if (!turn) return;
  if (turns.all.length === 1 && event.turn > 0) showMissing(event.turn);
  if (event.type === "turn_revised") view.revise(turn);
  else view.show(turn);
  if (turn.isFinal) transcript.append(turn);
  if (turns.all.length > KEPT) forgetOldest();
}

/** A page that is open for weeks keeps the newest turns alone. */
function forgetOldest() {
  transcript.remove(turns.all.shift());
  showMissing(nMissing + 1);
}

/** After a new connection the server sends its turns again. Another text under a number: the daemon was restarted. */
function compare(event) {
  if (event.type === "turn_revised") return;
  isComparing = false;
  const known = turns.current(event.turn);
  if (!known?.isFinal || (event.type === "turn_end" && event.text === known.said)) return;
  turns.restart();
}

/** Show whether somebody speaks. A new speaker clears the text, but not the one who goes on after a restart. */
function follow(event) {
  if (event.speaker > speaker && !isComparing) clear();
  speaker = event.speaker;
  show(event.live ? "live" : "waiting", event.live ? "Live" : "Nobody is speaking");
  if (event.live) wakeLock.keep();
  else wakeLock.release();
}

function clear() {
  turns.clear();
  view.clear();
  transcript.clear();
  showMissing(0);
}

/** Say how many sentences are not shown: they were forgotten here, and by the server too. */
function showMissing(n) {
  nMissing = n;
  $("missing").hidden = n === 0;
  $("missing").textContent = `without the first ${n === 1 ? "sentence" : `${n} sentences`}, which the server no longer has`;
}

async function showState(state) {
  isJoined = state === "live";
  if (state !== "reconnecting" && !PASSING[state]) return;
  const [text, reason] = PASSING[state] ?? ["Reconnecting…"];
  show("waiting", text);
  const trouble = reason ?? (await connectionTrouble());
  if (!isJoined) notify(`${trouble} This page tries again by itself.`);
}

function show(look, text) {
  $("status").dataset.state = look;
  $("status").textContent = text;
}

function explain({ error }) {
  show("ready", "No captions");
  wakeLock.release();
  notify(TROUBLES[error.code] ?? `The server ended the captions: ${error.message}. Reload this page. If that does not help, tell whoever sent you here.`);
  if (error.code !== "unauthorized" && error.code !== "forbidden") return;
  if (!pageKey()) notify(null); // no key was entered yet: the form alone asks for one
  askKey($("key-form"), join);
}

function notify(message) {
  $("notice").textContent = message ?? "";
  $("notice").hidden = !message;
}

$("title").textContent = room;
document.title = `Captions: ${room}`;
new Display($("display"), () => view.settle());
addEventListener("hashchange", () => location.reload()); // another key
join();
