// The live page: connects an audio source, a session, and the captions on the page.

import { Captions, Microphone, SharedAudio, listMicrophones, microphoneObstacle } from "./client.js";
import { CaptionView } from "./caption-view.js";
import { Display } from "./display.js";
import { Transcript } from "./transcript.js";
import { Turns } from "./turns.js";

const $ = (id) => document.getElementById(id);
const SHARED = "shared";
const STATES = {
  ready: ["ready", "Ready"],
  asking: ["waiting", "Waiting for the microphone"],
  connecting: ["waiting", "Connecting…"],
  live: ["live", "Listening"],
  reconnecting: ["waiting", "Reconnecting…"],
  overloaded: ["waiting", "Server busy, waiting…"],
  draining: ["waiting", "Server restarting…"],
  finishing: ["waiting", "Finishing…"],
};
const TROUBLES = {
  unauthorized: "The server did not accept the key. Check it, or ask whoever runs the server for a new one.",
  room_taken: "Somebody else speaks in that room. Choose another name.",
  bad_room: "A room is named with letters, digits, - and _.",
  no_rooms: "This server has no audience rooms.",
  broken: "The server did not understand this page. Reload it and try again.",
  too_long: "The connection was lost, and the recording is too long to be sent again. Press Start to go on.",
  no_codecs: "This server cannot read compressed sound. Untick “Slow network” and press Start.",
};

const turns = new Turns();
const view = new CaptionView($("stage"));
const transcript = new Transcript($("transcript"), turns);
let source = null;
let session = null;
let isStarting = false;
let wakeLock = null;
let delays = [];
let lagS = 0;

// ---- start and stop

async function start() {
  if (isStarting) return; // a disabled button would lose the keyboard focus
  isStarting = true;
  notify(null);
  show("asking");
  try {
    source = await openSource();
    session = openSession();
    source.onChunk = (chunk, endS) => session?.send(chunk, endS);
  } catch (error) {
    source = null;
    show("ready");
    notify(error.message);
  }
  isStarting = false;
  setRunning(session !== null);
  await fillDevices();
  wakeLock = session && (await navigator.wakeLock?.request("screen").catch(() => null));
}

async function openSource() {
  const compressed = $("compressed").checked;
  const chosen = $("device").value;
  const opened = chosen === SHARED ? await SharedAudio.open({ compressed }) : await Microphone.open({ deviceId: chosen, compressed });
  opened.onLevel = level;
  opened.onLost = () => {
    if (chosen !== SHARED) notify("The microphone was disconnected.");
    stop();
  };
  return opened;
}

function openSession() {
  turns.restart();
  delays = [];
  lagS = 0;
  const language = $("language").value;
  const room = $("room").value.trim();
  const token = sessionStorage.getItem("key") ?? undefined;
  return new Captions({ token, audio: source.audio, ...(language && { language }), ...(room && { room }) })
    .on("state", show)
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
  if (error) explain(error);
  wakeLock?.release();
  wakeLock = null;
}

function setRunning(isRunning) {
  $("toggle").toggleAttribute("data-running", isRunning);
  $("toggle-text").textContent = isRunning ? "Stop" : "Start";
  for (const id of ["device", "language", "room", "compressed"]) $(id).disabled = isRunning;
  $("language").disabled ||= $("language").options.length < 2;
  if (!isRunning) $("delay").hidden = true;
}

// ---- events of the server

function receive(event) {
  if (event.type === "ack") lagS = event.lag_s;
  const turn = turns.apply(event);
  if (event.type === "caption") delays = [...delays.slice(-8), session.capturedS - event.end_s];
  if (delays.length) showDelay();
  if (!turn) return;
  view.show(turn);
  if (turn.isFinal) transcript.append(turn);
}

/** Close a turn whose server is gone. */
function append(turn) {
  if (!turn) return;
  view.show(turn);
  transcript.append(turn);
}

/** Show the delay from the end of a word to its caption, or the server's lag if that is larger. */
function showDelay() {
  const median = delays.toSorted((a, b) => a - b)[delays.length >> 1];
  $("delay").textContent = `${Math.max(0, median, lagS).toFixed(1)} s behind`;
  $("delay").hidden = false;
}

function show(state) {
  const [look, text] = STATES[state];
  $("status").dataset.state = look;
  if ($("status").textContent !== text) $("status").textContent = text;
}

function explain({ code, message }) {
  notify(TROUBLES[code] ?? `The server ended the session: ${message}.`);
  if (code !== "unauthorized") return;
  if (!sessionStorage.getItem("key")) notify(null); // no key was entered yet: the form alone asks for one
  sessionStorage.removeItem("key");
  $("key-form").hidden = false;
  $("key").focus();
}

function notify(message) {
  $("notice").textContent = message ?? "";
  $("notice").hidden = !message;
}

function level(db) {
  $("level").style.transform = `scaleX(${Math.max(0, Math.min(1, (db + 60) / 50))})`;
}

// ---- settings

async function fillDevices() {
  if (!navigator.mediaDevices) return;
  const chosen = $("device").value || localStorage.getItem("device") || "";
  const found = (await listMicrophones()).map(({ deviceId, label }) => new Option(label, deviceId));
  const shared = navigator.mediaDevices.getDisplayMedia ? [new Option("Tab or screen sound", SHARED)] : [];
  $("device").replaceChildren(new Option("Default microphone", ""), ...found, ...shared);
  $("device").value = chosen;
  if ($("device").selectedIndex < 0) $("device").value = "";
}

async function readInfo() {
  const response = await fetch("/info").catch(() => null);
  if (!response?.ok) return notify("The server does not answer. Is the daemon still running?");
  const { model, languages, rooms } = await response.json();
  $("model").textContent = model;
  $("audience").hidden = !rooms;
  fillLanguages(languages);
}

function fillLanguages(languages) {
  const names = new Intl.DisplayNames([navigator.language, "en"], { type: "language" });
  const name = (code) => { try { return names.of(code); } catch { return code; } };
  const options = languages.map((code) => new Option(name(code), code)).sort((a, b) => a.text.localeCompare(b.text));
  // an empty value leaves the language to the server's configuration
  if (options.length > 1) options.unshift(new Option("Detect language", "auto"));
  $("language").replaceChildren(...options);
  const wanted = localStorage.getItem("language");
  if (options.some((option) => option.value === wanted)) $("language").value = wanted;
  $("language").disabled = options.length < 2;
}

function showWatchLink() {
  const room = $("room").value.trim();
  $("watch-link").hidden = !room || !$("room").checkValidity();
  $("watch-link").href = `/watch/${room}`;
  $("watch-link").textContent = `Audience: ${location.host}/watch/${room}`;
}

function remember(id, property) {
  const kept = localStorage.getItem(id);
  if (kept !== null) $(id)[property] = property === "checked" ? kept === "true" : kept;
  $(id).addEventListener("change", () => localStorage.setItem(id, $(id)[property]));
}

// ---- setup

$("toggle").onclick = () => (session ? stop() : start());
$("room").oninput = showWatchLink;
$("key-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  $("key").value = "";
  $("key-form").hidden = true;
  start();
};
for (const [id, property] of [["device", "value"], ["language", "value"], ["compressed", "checked"]]) remember(id, property);
navigator.mediaDevices?.addEventListener("devicechange", fillDevices);
addEventListener("beforeunload", (event) => { if (session) event.preventDefault(); });

new Display($("display"), () => view.settle());
fillDevices();
readInfo();
const obstacle = microphoneObstacle();
if (obstacle) {
  notify(obstacle);
  $("toggle").disabled = true;
}
