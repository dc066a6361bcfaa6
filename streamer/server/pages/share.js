// The address of an audience's page: as a link, to copy, and as a QR code.

import { qrMatrix } from "./qr.js";
import { addressOf } from "./server.js";
import { copied } from "./transcript.js";

const QUIET_ZONE = 4; // modules of white around a code, as the standard asks
const LOOPBACK = /^(localhost|127\.|\[::1\])/;
const MENU = `
  <a id="watch-link" class="watch" target="_blank"></a>
  <button id="copy-link" type="button">Copy link</button>
  <button id="show-code" type="button">QR code</button>
  <dialog id="code" aria-label="QR code of the audience's page">
    <div id="code-picture"></div>
    <p id="code-address"></p>
    <p id="code-hint" class="hint"></p>
    <form method="dialog"><button>Close</button></form>
  </dialog>
`;

export class Share {
  #place;
  #url = "";

  /** Fill an element with the link and its buttons. */
  constructor(place) {
    this.#place = place;
    place.innerHTML = MENU;
    this.#find("copy-link").onclick = ({ currentTarget }) => this.#copy(currentTarget);
    this.#find("show-code").onclick = () => this.#showCode();
  }

  /** Share this room; "": no room. */
  show(room, hasKey) {
    this.#place.hidden = !room;
    this.#url = addressOf(`watch/${room}`).href;
    this.#find("watch-link").href = this.#url;
    this.#find("watch-link").textContent = `Audience: ${this.#url.replace(/^https?:\/\//, "")}`;
    this.#find("code-address").textContent = this.#url;
    this.#find("code-hint").textContent = [
      LOOPBACK.test(location.host) && "Only this machine can open this address. Open the page by the machine's name for an address that phones can open.",
      hasKey && "Viewers are asked for a key.",
    ].filter(Boolean).join(" ");
  }

  #find(id) {
    return this.#place.querySelector(`#${id}`);
  }

  async #copy(button) {
    button.textContent = (await copied(this.#url)) ? "Copied" : "Not allowed";
    setTimeout(() => (button.textContent = "Copy link"), 2000);
  }

  #showCode() {
    this.#find("code-picture").replaceChildren(picture(qrMatrix(this.#url)));
    this.#find("code").showModal();
  }
}

/** Black on white, whatever the colours of the page are: phones read no other. */
function picture(matrix) {
  const size = matrix.length + 2 * QUIET_ZONE;
  const path = matrix.flatMap((row, y) => row.map((isDark, x) => (isDark ? `M${x + QUIET_ZONE} ${y + QUIET_ZONE}h1v1h-1z` : "")));
  const svg = drawing("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "QR code", "shape-rendering": "crispEdges" });
  svg.append(drawing("rect", { width: size, height: size, fill: "#fff" }), drawing("path", { d: path.join(""), fill: "#000" }));
  return svg;
}

function drawing(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
