// The settings of the live page: what is heard and how. Kept in this browser.

import { canCompress, listMicrophones } from "./client.js";
import { browserMemory } from "./storage.js";

export const SHARED = "shared"; // sound of a tab or the screen
const MAX_TERMS = 256; // bounds of the protocol
const MAX_TERM_LETTERS = 128;
const MAX_TERM_BYTES = 8192;
const KEPT = [["device", "value"], ["language", "value"], ["room", "value"], ["terms", "value"], ["pace", "value"],
  ["translate", "checked"], ["compressed", "checked"]];
const FIXED = ["room", "pace", "translate", "compressed"]; // for the time of a session

const $ = (id) => document.getElementById(id);

export class Settings {
  #isRunning = false;

  /** Listeners: `onDevice()`, `onUpdate(options)` for what changes while captions run. */
  constructor({ onDevice, onUpdate }) {
    for (const [id, property] of KEPT) remember(id, property);
    $("device").addEventListener("change", onDevice);
    $("language").addEventListener("change", () => onUpdate({ language: $("language").value }));
    $("terms").addEventListener("change", () => onUpdate({ keyterms: this.terms }));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.fillDevices());
  }

  get device() {
    return $("device").value;
  }

  get isCompressed() {
    return $("compressed").checked && !$("slow").hidden;
  }

  get room() {
    return $("room").value.trim();
  }

  /** Names and terms within the bounds of the protocol; the rest is left out. */
  get terms() {
    let bytes = MAX_TERM_BYTES;
    const all = $("terms").value.split(/[\n,;]/).map((term) => [...term.trim()].slice(0, MAX_TERM_LETTERS).join(""));
    return all.filter((term) => term && (bytes -= new TextEncoder().encode(term).length) >= 0).slice(0, MAX_TERMS);
  }

  /** Whether the server finds the language out by itself. */
  get detectsLanguage() {
    return $("language").value === "auto";
  }

  /** Fields of `start`. */
  get options() {
    const [language, delay, keyterms] = [$("language").value, $("pace").value, this.terms];
    const isTranslated = $("translate").checked && !$("translation").hidden;
    return {
      revise: true,
      ...(language && { language }),
      ...(delay && { delay }),
      ...(keyterms.length && { keyterms }),
      ...(isTranslated && { task: "translate" }),
      ...(this.room && { room: this.room }),
    };
  }

  /** Hold what a running session cannot change. */
  hold(isRunning) {
    this.#isRunning = isRunning;
    for (const id of FIXED) $(id).disabled = isRunning;
  }

  /** Offer what the server can do (`/info`). */
  offer({ languages, language, rooms, encodings = [] }) {
    $("audience").hidden = !rooms;
    if (!rooms) $("room").value = ""; // one of earlier days would be refused, and could not be seen
    $("slow").hidden = !(canCompress() && encodings.includes("webm_opus"));
    $("translation").hidden = languages.length < 2;
    fillLanguages(languages, language);
  }

  /** List the microphones anew, and choose that of an earlier visit, unless another one is heard already. */
  async fillDevices() {
    if (!navigator.mediaDevices) return;
    const chosen = $("device").value || (!this.#isRunning && browserMemory.get("device")) || "";
    const found = (await listMicrophones()).map(({ deviceId, label }) => new Option(label, deviceId));
    const shared = navigator.mediaDevices.getDisplayMedia ? [new Option("Tab or screen sound", SHARED)] : [];
    $("device").replaceChildren(new Option("Default microphone", ""), ...found, ...shared);
    this.choose(chosen);
  }

  /** Show a device as the chosen one. */
  choose(device) {
    $("device").value = device;
    if ($("device").selectedIndex < 0) $("device").value = "";
  }
}

/** The name of a language in the language of the browser. */
export function languageName(code) {
  const names = new Intl.DisplayNames([navigator.language, "en"], { type: "language" });
  try {
    return names.of(code);
  } catch {
    return code;
  }
}

/** Offer the languages, of which `usual` is chosen as long as nobody has chosen here: the one that the server is set to. */
function fillLanguages(languages, usual) {
  const options = languages.map((code) => new Option(languageName(code), code)).sort((a, b) => a.text.localeCompare(b.text));
  if (options.length > 1) options.unshift(new Option("Detect language", "auto"));
  $("language").replaceChildren(...options);
  const wanted = [browserMemory.get("language"), usual].find((code) => options.some(({ value }) => value === code));
  if (wanted) $("language").value = wanted;
  $("language").disabled = options.length < 2;
}

function remember(id, property) {
  const kept = browserMemory.get(id);
  if (kept !== null) $(id)[property] = property === "checked" ? kept === "true" : kept;
  $(id).addEventListener("change", () => browserMemory.set(id, $(id)[property]));
}
