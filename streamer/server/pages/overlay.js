// Captions of a room on a transparent page, for a browser source in OBS or a second screen. Parameters of the address:
// overlay-settings.js, shown at /overlay/options.

import { CaptionView } from "./caption-view.js";
import { Watch } from "./client.js";
import { pageKey } from "./key.js";
import { readSettings } from "./overlay-settings.js";
import { addressOf, connectionTrouble } from "./server.js";
import { Turns } from "./turns.js";

const NOTICE_MS = 20000; // long enough for whoever sets the scene up, and gone before it is on air
const SAMPLE = ["These are captions as they will look,", " with words that may still change."];
const settings = readSettings(location.search);
const PASSING = {
  overloaded: "The server has no place for more viewers.",
  failing: "The server failed. Its log says why.",
  draining: "The server restarts.",
};
const TROUBLES = {
  no_microphone: "This server captions no microphone: start it with --mic, or name a room (?room=NAME).",
  no_rooms: "This server has no audience rooms: set server.rooms = true.",
  forbidden: "The key at the end of this address may not watch.",
  bad_room: "No such room: a name has letters, digits, - and _.",
};

const stage = document.getElementById("stage");
const notice = document.getElementById("notice");
const view = new CaptionView(stage);
const turns = new Turns();
let speaker = -1;
let timer = 0;
let noticeTimer = 0;
let isJoined = false;
let nPast = 0; // turns still to come from before the page was opened, or while the connection was lost

function receive(event) {
  if (event.type === "caption" && settings.partials === "no") event = { ...event, partial: "" };
  const turn = turns.apply(event);
  if (event.type === "turn_revised") {
    if (nPast-- <= 0 && turn) view.revise(turn);
    return;
  }
  if (!turn) return;
  if (turn.isFinal) turns.all.splice(0, turns.all.length - 3);
  if (turn.isFinal && nPast-- > 0) return;
  if (!turn.text && !turn.partial) return;
  view.show(turn);
  clearTimeout(timer);
  timer = setTimeout(() => view.clear(), 1000 * settings.hold);
}

function follow(event) {
  nPast = event.turns;
  if (event.speaker !== speaker) turns.clear();
  speaker = event.speaker;
  notify(event.live ? null : `Nobody is speaking in room “${settings.room}” yet.`);
}

async function showState(state) {
  isJoined = state === "live";
  if (state !== "reconnecting" && !PASSING[state]) return;
  const trouble = PASSING[state] ?? (await connectionTrouble());
  if (!isJoined) notify(`${trouble} This page tries again by itself.`);
}

function explain({ error }) {
  const keys = pageKey()
    ? "The server did not accept the key at the end of this address (#key=…)."
    : "This server asks for a key: add #key=… to the end of this address.";
  notify(error.code === "unauthorized" ? keys : (TROUBLES[error.code] ?? `The server ended the captions: ${error.message}. Refresh this source.`));
}

/** Small print for a while; null: none. */
function notify(message) {
  clearTimeout(noticeTimer);
  notice.hidden = !message;
  notice.textContent = message ?? "";
  noticeTimer = setTimeout(() => (notice.hidden = true), NOTICE_MS);
}

function style() {
  const root = document.documentElement;
  const set = (name, value) => value && root.style.setProperty(`--${name}`, value);
  set("lines", settings.lines);
  set("size", settings.size && `${settings.size}px`);
  set("width", `${settings.width}em`);
  set("color", `#${settings.color}`);
  set("back", settings.back === "none" ? "transparent" : `#${settings.back}`);
  set("font", settings.font && `"${settings.font}", sans-serif`);
  const edge = settings.edge || (settings.back === "none" ? "outline" : "none");
  if (edge !== "none") root.dataset.edge = edge;
  Object.assign(root.dataset, { align: settings.align || "center", place: settings.place });
  if (settings.align === "center") root.dataset.lines = "centre";
}

style();
addEventListener("hashchange", () => location.reload()); // another key
if (settings.sample === "yes") {
  view.show({ key: "sample", text: SAMPLE[0], partial: SAMPLE[1], lang: "en" });
} else {
  new Watch({ room: settings.room, token: pageKey() })
    .on("room", follow)
    .on("*", receive)
    .on("state", showState)
    .on("end", explain);
}
if (settings.wrong.length) notify(`The address says something unknown: ${settings.wrong.join(", ")}. See ${addressOf("overlay/options").href}`);
