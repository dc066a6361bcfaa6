// Captions of the daemon's microphone on a transparent page.
//   /overlay?lines=3&size=48&hold=8      lines shown, letter height in pixels, seconds until captions go away

import { CaptionView } from "./caption-view.js";
import { Turns } from "./turns.js";

const settings = new URLSearchParams(location.search);
const HOLD_MS = 1000 * (Number(settings.get("hold")) || 5);
const RETRY_MS = 3000;

const view = new CaptionView(document.getElementById("stage"));
let turns = new Turns();
let timer = 0;

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/v1/watch`, "captions.v1");
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = () => {
    // the daemon may be another one when it is back
    turns = new Turns();
    setTimeout(connect, RETRY_MS);
  };
}

function receive(event) {
  const turn = turns.apply(event);
  if (!turn) return;
  view.show(turn);
  if (turn.isFinal) turns.all.splice(0, turns.all.length - 3);
  clearTimeout(timer);
  timer = setTimeout(() => view.clear(), HOLD_MS);
}

for (const [name, unit] of [["lines", ""], ["size", "px"]]) {
  const value = Number(settings.get(name));
  if (value > 0) document.documentElement.style.setProperty(`--${name}`, `${value}${unit}`);
}
connect();
