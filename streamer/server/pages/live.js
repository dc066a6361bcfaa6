// The live page: connects an audio source, a session, and the captions on the page.

import { CaptionView } from "./caption-view.js";
import { Captions, Microphone, SharedAudio, microphoneObstacle } from "./client.js";
import { Display, closeOutside } from "./display.js";
import { askKey, pageKey } from "./key.js";
import { Record } from "./record.js";
import { connectionTrouble, serverInfo } from "./server.js";
import { SHARED, Settings, languageName } from "./settings.js";
import { Share } from "./share.js";
import { Shelf } from "./shelf.js";
import { Transcript } from "./transcript.js";
import { Turns, clock } from "./turns.js";
import { WakeLock } from "./wake-lock.js";

const $ = (id) => document.getElementById(id);
const CLOCK_MS = 250;
const STATES = {
  ready: ["ready", "Ready"],
  asking: ["waiting", "Waiting for permission…"],
  connecting: ["waiting", "Connecting…"],
  live: ["live", "Listening"],
  silent: ["waiting", "Microphone silent"],
  reconnecting: ["waiting", "Reconnecting…"],
  overloaded: ["waiting", "Server busy, waiting…"],
  failing: ["waiting", "Server failed, reconnecting…"],
  draining: ["waiting", "Server restarting…"],
  finishing: ["waiting", "Finishing…"],
};
const PASSING = {
  overloaded: "The server has no free place.",
  failing: "The server failed. Its log says why.",
  draining: "The server restarts.",
};
const TROUBLES = {
  unauthorized: "The server did not accept the key. Check it, or ask whoever runs the server for a new one.",
  forbidden: "This key may watch, not speak. Ask whoever runs the server for one that may.",
  room_taken: "Somebody else speaks in that room. Choose another name.",
  bad_room: "A room is named with letters, digits, - and _. Choose another name.",
  no_rooms: "This server has no audience rooms. Reload this page, and press Start.",
  no_microphone: "The room “microphone” is that of the server's own microphone. Choose another name.",
  idle: "No sound came from this page for too long, as when the computer sleeps. Press Start to go on.",
  broken: "The server did not understand this page. Reload it, and press Start.",
  too_long: "The connection was lost, and the recording is too long to be sent again. Press Start to go on.",
  no_codecs: "This server cannot read compressed sound. Untick “Slow network” and press Start.",
};

const turns = new Turns();
const view = new CaptionView($("stage"));
const transcript = new Transcript($("transcript"), turns, {
  facts: () => ({ date: new Date(turns.all[0].spokenAt), model: record.model || null }),
  onCorrect: (turn, text) => {
    turns.correct(turn, text);
    record.save(turn);
  },
});
const settings = new Settings({ onDevice: switchSource, onUpdate: change });
const share = new Share($("share"));
const wakeLock = new WakeLock();
let record;
let source = null;
let session = null;
let isStarting = false;
let delays = [];
let lagS = 0;
let ticking = 0;
let hearing = ""; // the device that is heard
let state = "ready";
let isSilent = false; // whether the microphone gives no sound at all
let farewell = null; // why the session ends, where nobody asked for it

// ---- start and stop

async function start() {
  if (isStarting) return; // a disabled button would lose the keyboard focus
  isStarting = true;
  farewell = null;
  notify(null);
  show("asking");
  try {
    [source] = await Promise.all([openSource(), readInfo()]);
    session = openSession();
    source.onChunk = (chunk, endS) => session?.send(chunk, endS);
  } catch (error) {
    source = null;
    show("ready");
    notify((await serverInfo()) ? error.message : await absence());
  }
  isStarting = false;
  setRunning(session !== null);
  await settings.fillDevices();
  if (session) await wakeLock.keep();
}

async function openSource() {
  const compressed = settings.isCompressed;
  hearing = settings.device;
  isSilent = false;
  const opened = hearing === SHARED ? await SharedAudio.open({ compressed }) : await Microphone.open({ deviceId: hearing, compressed });
  opened.onLevel = level;
  opened.onSilence = (isSilentNow) => {
    isSilent = isSilentNow;
    show(state);
  };
  opened.onLost = () => {
    if (hearing !== SHARED) notify((farewell = "The microphone was disconnected."));
    stop();
  };
  return opened;
}

/** Hear the chosen device instead, in the same session. */
async function switchSource() {
  if (!source) return;
  const chosen = settings.device;
  try {
    await (chosen === SHARED ? source.switchToSharedAudio() : source.switchToMicrophone({ deviceId: chosen }));
    hearing = chosen;
    notify(null);
  } catch (error) {
    settings.choose(hearing);
    notify(error.message);
  }
}

function change(options) {
  session?.update(options);
  turns.expect(options);
  if (options.language) $("detected").hidden = true;
}

function openSession() {
  append(turns.restart());
  turns.record(Date.now());
  delays = [];
  lagS = 0;
  ticking = setInterval(tick, CLOCK_MS);
  return new Captions({ token: pageKey(), audio: source.audio, ...settings.options })
    .on("state", follow)
    .on("*", receive)
    .on("restart", () => append(turns.restart()))
    .on("end", ended);
}

async function stop() {
  if (!source) return session?.abandon(); // the button was pressed again while the session was finishing
  const closing = source;
  source = null;
  $("toggle-text").textContent = "Leave";
  await closing.close();
  level(-100);
  session?.end();
}

async function ended({ error }) {
  // a second recording continues the times of the first
  turns.offsetS += session.capturedS;
  session = null;
  const closing = source;
  source = null;
  await closing?.close();
  level(-100);
  append(turns.restart());
  show("ready");
  setRunning(false);
  notify(farewell);
  if (error) explain(error);
  wakeLock.release();
}

function setRunning(isRunning) {
  $("toggle").toggleAttribute("data-running", isRunning);
  $("toggle-text").textContent = isRunning ? "Stop" : "Start";
  $("stage").dataset.hint = isRunning ? "Captions appear here." : "Press Start and speak.";
  settings.hold(isRunning);
  $("clock").hidden = !isRunning;
  if (!isRunning) {
    clearInterval(ticking);
    $("delay").hidden = true;
  }
  showShelf();
}

function tick() {
  $("clock").textContent = clock(turns.offsetS + (session?.capturedS ?? 0));
}

// ---- events of the server

async function follow(next) {
  show(next);
  if (next === "live") notify(null);
  if (next !== "reconnecting" && !PASSING[next]) return;
  const trouble = PASSING[next] ?? (await connectionTrouble());
  if (state === next) notify(`${trouble} This page tries again by itself. What you say is kept for ${settings.isCompressed ? "an hour" : "two minutes"}.`);
}

async function absence() {
  return `${await connectionTrouble()} Is the daemon still running?`;
}

function receive(event) {
  if (event.type === "ack") lagS = event.lag_s;
  const turn = turns.apply(event);
  if (event.type === "caption") delays = [...delays.slice(-8), session.capturedS - event.end_s];
  if (delays.length) showDelay();
  if (!turn) return;
  if (event.type === "turn_revised") view.revise(turn);
  else view.show(turn);
  record.save(turn);
  if (!turn.isFinal) return;
  transcript.append(turn);
  showDetected(turn);
}

/** Close a turn whose server is gone. */
function append(turn) {
  if (!turn) return;
  view.show(turn);
  transcript.append(turn);
  record.save(turn);
}

/** Show the delay from the end of a word to its caption, or the server's lag if that is larger. */
function showDelay() {
  const median = delays.toSorted((a, b) => a - b)[delays.length >> 1];
  $("delay").textContent = `${Math.max(0, median, lagS).toFixed(1)} s behind`;
  $("delay").hidden = !isHeard();
}

/** Whether what is said now is captioned now. */
function isHeard() {
  return state === "live" && !isSilent;
}

function showDetected({ language }) {
  $("detected").hidden = !(language && settings.detectsLanguage);
  $("detected").textContent = `Detected language: ${languageName(language ?? "")}`;
}

function show(next) {
  state = next;
  const isMuted = isSilent && state === "live";
  $("muted").hidden = !isMuted;
  if (!isHeard()) $("delay").hidden = true; // it is of what was said before
  const [look, text] = STATES[isMuted ? "silent" : state];
  $("status").dataset.state = look;
  if ($("status").textContent !== text) $("status").textContent = text;
}

function explain({ code, message }) {
  notify(TROUBLES[code] ?? `The server ended the session: ${message}. Reload this page, and press Start. If that does not help, tell whoever runs the server.`);
  if (code !== "unauthorized" && code !== "forbidden") return;
  if (!pageKey()) notify(null); // no key was entered yet: the form alone asks for one
  askKey($("key-form"), start);
}

function notify(message) {
  if ($("notice").textContent === (message ?? "")) return;
  $("notice").textContent = message ?? "";
  $("notice").hidden = !message;
}

function level(db) {
  $("level").style.transform = `scaleX(${Math.max(0, Math.min(1, (db + 60) / 50))})`;
}

// ---- the transcripts of this browser

/** Show the transcript of the record. */
function showRecord() {
  transcript.restore(turns.finals);
  view.clear();
  $("detected").hidden = true;
  turns.finals.slice(-2).forEach((turn) => view.show(turn));
  showShelf();
}

/** List the earlier transcripts, and allow what is possible now. */
async function showShelf() {
  const isIdle = session === null;
  $("new").disabled = $("clear").disabled = !isIdle || !turns.finals.length;
  const earlier = (await record.list()).filter(({ id }) => id !== record.id);
  const options = earlier.map(({ id, startedAt, title }) => new Option(`${dateText(startedAt)} · ${title}`, id));
  $("earlier").replaceChildren(new Option("Earlier…", ""), ...options);
  $("earlier").hidden = !earlier.length;
  $("earlier").disabled = !isIdle;
}

function dateText(ms) {
  return new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

async function openEarlier() {
  notify(null);
  if (!(await record.open($("earlier").value))) notify("That transcript is open in another tab, or was deleted.");
  showRecord();
}

async function clearRecord() {
  if (!confirm("Delete this transcript from this browser?")) return;
  await record.discard();
  showRecord();
}

// ---- setup

/** Offer what the server can do; it may be another one since the page was opened. */
async function readInfo() {
  const info = await serverInfo();
  if (!info) return notify(await absence());
  $("model").textContent = record.model = info.model;
  settings.offer(info);
  showShare();
}

function showShare() {
  const isGood = $("room").checkValidity() && !$("audience").hidden;
  share.show(isGood ? settings.room : "", Boolean(pageKey()));
}

async function openRecord() {
  record = new Record(await Shelf.open(), turns);
  await record.reopen();
  showRecord();
}

$("toggle").onclick = () => (session ? stop() : start());
$("room").oninput = showShare;
$("new").onclick = async () => { await record.renew(); showRecord(); };
$("clear").onclick = clearRecord;
$("earlier").onchange = openEarlier;
addEventListener("hashchange", () => location.reload()); // another key
addEventListener("beforeunload", (event) => { if (session) event.preventDefault(); });

new Display($("display"), () => view.settle(), { hasWords: true });
closeOutside($("options"));
const obstacle = microphoneObstacle();
$("toggle").disabled = true; // until the transcript is there
await openRecord();
$("toggle").disabled = Boolean(obstacle);
settings.fillDevices();
await readInfo();
if (obstacle) notify(obstacle);
