// The live page: wires microphone, session and what is seen.

import { Microphone, listMicrophones, microphoneObstacle } from "./microphone.js";
import { Session } from "./session.js";
import { toFile } from "./subtitles.js";
import { Turns, clock } from "./turns.js";
import { CaptionView } from "./caption-view.js";

const $ = (id) => document.getElementById(id);
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
const SIZES = [0.7, 0.85, 1, 1.2, 1.45, 1.75];

const turns = new Turns();
const view = new CaptionView($("stage"));
let microphone = null;
let session = null;
let isStarting = false;
let wakeLock = null;
let delays = [];
let lagS = 0;

// ---- start and stop

async function start() {
  if (isStarting) return; // the button is not disabled meanwhile: that would take the keyboard's focus away
  isStarting = true;
  notify(null);
  show("asking");
  try {
    const early = []; // the session needs the rate, which is known once samples flow
    microphone = await Microphone.open($("device").value, {
      onSamples: (samples) => {
        level(samples);
        session ? session.push(samples) : early.push(samples);
      },
      onLost: () => { notify("The microphone was disconnected."); stop(); },
    });
    session = openSession(microphone.rate);
    early.forEach((samples) => session.push(samples));
  } catch (error) {
    microphone = null;
    show("ready");
    notify(error.message);
  }
  isStarting = false;
  setRunning(session !== null);
  await fillDevices();
  wakeLock = session && (await navigator.wakeLock?.request("screen").catch(() => null));
}

function openSession(rate) {
  turns.restart();
  delays = [];
  lagS = 0;
  const language = $("language").value;
  const audio = { encoding: "pcm_s16le", rate, channels: 1 };
  return new Session({ audio, ...(language && { language }) }, {
    onState: show,
    onEvent: receive,
    onRestart: () => append(turns.restart()),
    onEnd: ended,
    context: () => turns.context,
  });
}

async function stop() {
  if (!microphone) return session?.abandon(); // pressed again while finishing
  const closing = microphone;
  microphone = null;
  level(new Int16Array(1));
  $("toggle-text").textContent = "Leave";
  await closing.close();
  session?.end();
}

async function ended(message) {
  // a second recording goes on where the first one ended
  turns.offsetS += session.capturedS;
  session = null;
  const closing = microphone;
  microphone = null;
  await closing?.close();
  level(new Int16Array(1));
  append(turns.restart());
  show("ready");
  setRunning(false);
  if (message) notify(message);
  wakeLock?.release();
  wakeLock = null;
}

function setRunning(isRunning) {
  $("toggle").toggleAttribute("data-running", isRunning);
  $("toggle-text").textContent = isRunning ? "Stop" : "Start";
  $("device").disabled = $("language").disabled = isRunning;
  if (!isRunning) $("delay").hidden = true;
  $("language").disabled ||= $("language").options.length < 2;
}

// ---- what comes back

function receive(event) {
  if (event.type === "ack") lagS = event.lag_s;
  const turn = turns.apply(event);
  if (event.type === "caption") delays = [...delays.slice(-8), session.capturedS - event.end_s];
  if (delays.length) showDelay();
  if (!turn) return;
  view.show(turn);
  if (turn.isFinal) append(turn);
}

/** Add a final turn to the transcript. */
function append(turn) {
  if (!turn) return;
  view.show(turn);
  if (!turn.text.trim()) return;
  const log = $("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const row = document.createElement("div");
  row.className = "turn";
  const time = document.createElement("time");
  time.textContent = clock(turn.startS);
  const text = document.createElement("span");
  text.textContent = turn.text.trim();
  row.append(time, text);
  log.append(row);
  $("empty").hidden = true;
  document.querySelectorAll("[data-download]").forEach((button) => (button.disabled = false));
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  else $("latest").hidden = false;
}

/** From a word's end to its caption, what the speaker waits for; while none come, how far the server is behind. */
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

function notify(message) {
  $("notice").textContent = message ?? "";
  $("notice").hidden = !message;
}

function level(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const db = 10 * Math.log10(sum / samples.length / 32768 ** 2 + 1e-9);
  $("level").style.transform = `scaleX(${Math.max(0, Math.min(1, (db + 60) / 50))})`;
}

// ---- choices

async function fillDevices() {
  if (!navigator.mediaDevices) return;
  const chosen = $("device").value || localStorage.getItem("device") || "";
  const found = (await listMicrophones()).map(({ deviceId, label }) => new Option(label, deviceId));
  $("device").replaceChildren(new Option("Default microphone", ""), ...found);
  $("device").value = chosen;
  if ($("device").selectedIndex < 0) $("device").value = "";
}

async function fillLanguages() {
  const response = await fetch("/info").catch(() => null);
  if (!response?.ok) return notify("The server does not answer. Is the daemon still running?");
  const { model, languages } = await response.json();
  $("model").textContent = model;
  const names = new Intl.DisplayNames([navigator.language, "en"], { type: "language" });
  const name = (code) => { try { return names.of(code); } catch { return code; } };
  const options = languages.map((code) => new Option(name(code), code)).sort((a, b) => a.text.localeCompare(b.text));
  // an empty value leaves the choice to the operator's configuration
  if (options.length > 1) options.unshift(new Option("Detect language", "auto"));
  $("language").replaceChildren(...options);
  const wanted = localStorage.getItem("language");
  if (options.some((option) => option.value === wanted)) $("language").value = wanted;
  $("language").disabled = options.length < 2;
}

function resize(step) {
  const current = Number(localStorage.getItem("size") ?? 2);
  const index = Math.max(0, Math.min(SIZES.length - 1, current + step));
  localStorage.setItem("size", index);
  document.documentElement.style.setProperty("--size", SIZES[index]);
  $("smaller").disabled = index === 0;
  $("larger").disabled = index === SIZES.length - 1;
  view.settle();
}

function download(format) {
  const url = URL.createObjectURL(new Blob([toFile(format, turns.finals)], { type: "text/plain;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `captions-${new Date().toISOString().slice(0, 16).replace(":", "")}.${format}`;
  link.click();
  URL.revokeObjectURL(url);
}

// ---- begin

$("toggle").onclick = () => (session ? stop() : start());
$("smaller").onclick = () => resize(-1);
$("larger").onclick = () => resize(+1);
$("device").onchange = () => localStorage.setItem("device", $("device").value);
$("language").onchange = () => localStorage.setItem("language", $("language").value);
$("latest").onclick = () => ($("log").scrollTop = $("log").scrollHeight);
$("log").onscroll = () => {
  const log = $("log");
  if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) $("latest").hidden = true;
};
for (const button of document.querySelectorAll("[data-download]")) {
  button.onclick = () => download(button.dataset.download);
}
navigator.mediaDevices?.addEventListener("devicechange", fillDevices);
addEventListener("beforeunload", (event) => { if (session) event.preventDefault(); });

resize(0);
fillDevices();
fillLanguages();
const obstacle = microphoneObstacle();
if (obstacle) {
  notify(obstacle);
  $("toggle").disabled = true;
}
