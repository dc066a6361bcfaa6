// Captions of a room on a transparent page, for a browser source in OBS or a second screen. Parameters of the address:
//   room=NAME       room to show; by default the daemon's microphone
//   size=48         font size, pixels                             lines=2     lines shown
//   width=26        longest line, in font sizes                   hold=5      seconds until captions disappear
//   align=center    left, center or right                         place=bottom   bottom or top
//   color=ffffff    colour of the text                            back=000000c0   colour behind it, or none
//   font=NAME       a typeface of this machine                    partials=no    stable text alone

import { CaptionView } from "./caption-view.js";
import { Watch } from "./client.js";
import { Turns } from "./turns.js";

const settings = new URLSearchParams(location.search);
const HOLD_MS = 1000 * number("hold", 5);
const stage = document.getElementById("stage");
const view = new CaptionView(stage);
const turns = new Turns();
let speaker = -1;
let timer = 0;
let nPast = 0; // turns still to come from before the page was opened, or while the connection was lost

function receive(event) {
  if (event.type === "caption" && settings.get("partials") === "no") event = { ...event, partial: "" };
  const turn = turns.apply(event);
  if (!turn) return;
  if (turn.isFinal) turns.all.splice(0, turns.all.length - 3);
  if (turn.isFinal && nPast-- > 0) return;
  if (!turn.text && !turn.partial) return;
  view.show(turn);
  clearTimeout(timer);
  timer = setTimeout(() => view.clear(), HOLD_MS);
}

function number(name, otherwise) {
  const value = Number(settings.get(name));
  return value > 0 ? value : otherwise;
}

function style() {
  const root = document.documentElement;
  const set = (name, value) => value && root.style.setProperty(`--${name}`, value);
  set("lines", number("lines", null));
  set("size", number("size", null) && `${number("size")}px`);
  set("width", number("width", null) && `${number("width")}em`);
  for (const name of ["color", "back"]) {
    const value = settings.get(name);
    if (/^([0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})$/i.test(value)) set(name, `#${value}`);
    if (name === "back" && value === "none") set(name, "transparent");
  }
  const font = settings.get("font");
  if (font) set("font", `"${font.replace(/[^\w -]/g, "")}", sans-serif`);
  root.dataset.align = settings.get("align") ?? "center";
  root.dataset.place = settings.get("place") ?? "bottom";
}

style();
new Watch({ room: settings.get("room") ?? "microphone", token: new URLSearchParams(location.hash.slice(1)).get("key") })
  .on("room", (event) => {
    nPast = event.turns;
    if (event.speaker !== speaker) turns.clear();
    speaker = event.speaker;
  })
  .on("*", receive);
