// The options of the overlay, each with its meaning, and the address that they make.

import { SETTINGS } from "./overlay-settings.js";
import { addressOf } from "./server.js";
import { copied } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const KEY = { name: "key", otherwise: "", pattern: "[A-Za-z0-9._~\\-]+", means: "API key, if the server asks for one. It stands after the # of the address, which a browser sends to no server." };

function row({ name, otherwise, choices, pattern, means }) {
  const [label, term, told] = ["label", "code", "span"].map((tag) => document.createElement(tag));
  const input = choices ? select(choices) : Object.assign(document.createElement("input"), { type: "text", pattern, placeholder: otherwise || "default" });
  Object.assign(input, { name, value: choices ? otherwise : "", autocomplete: "off", spellcheck: false });
  Object.assign(term, { textContent: name });
  Object.assign(told, { textContent: means, className: "means" });
  label.append(term, input, told);
  return label;
}

function select(choices) {
  const input = document.createElement("select");
  input.append(...choices.map((choice) => new Option(choice || "default", choice)));
  return input;
}

/** The address of the chosen options; options with their defaults are left out. */
function address(extra = {}) {
  const url = addressOf("overlay");
  for (const { name, otherwise } of SETTINGS) {
    const input = $("settings").elements[name];
    const value = extra[name] ?? input.value.trim();
    if (value && value !== otherwise && input.checkValidity()) url.searchParams.set(name, value);
  }
  const key = $("settings").elements.key.value.trim();
  if (key) url.hash = `key=${key}`;
  return url.href;
}

function show() {
  $("address").textContent = address();
  $("try").href = address({ sample: "yes" });
}

async function copy({ currentTarget }) {
  currentTarget.textContent = (await copied(address())) ? "Copied" : "Not allowed";
}

$("settings").append(...SETTINGS.map(row), row(KEY));
$("settings").oninput = () => {
  $("copy").textContent = "Copy";
  show();
};
$("settings").onsubmit = (event) => event.preventDefault();
$("copy").onclick = copy;
show();
