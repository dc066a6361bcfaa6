// The transcript that this tab shows: saved turn by turn on the shelf, found again after a reload, exchanged for a new or
// an earlier transcript. A tab never writes to the transcript of another tab.

import { tabMemory } from "./storage.js";

const LOCK_WAIT_MS = 500; // for a tab that is about to close
const RELOAD_WAIT_MS = 5000; // for the page before a reload, which frees its lock when the browser comes to it

export class Record {
  id;
  #shelf;
  #turns;
  #model = "";
  #isKept = false;
  #saved = Promise.resolve();
  #release = () => {};

  /** `shelf`: null where the browser keeps nothing. */
  constructor(shelf, turns) {
    this.#shelf = shelf;
    this.#turns = turns;
    this.#begin();
  }

  get model() {
    return this.#model;
  }

  set model(name) {
    if (!this.#isKept) this.#model = name; // an earlier transcript keeps the model that made it
  }

  /** Show what this tab showed before a reload. */
  async reopen() {
    const id = tabMemory.get("transcript");
    const isReloaded = performance.getEntriesByType("navigation")[0]?.type === "reload";
    if (id && (await this.open(id, isReloaded ? RELOAD_WAIT_MS : LOCK_WAIT_MS))) return;
    tabMemory.set("transcript", this.id);
    await this.#hold(this.id);
  }

  /** Show an earlier transcript; return false if it is gone or another tab shows it. */
  async open(id, waitMs = LOCK_WAIT_MS) {
    const head = (await this.list()).find((known) => known.id === id);
    if (!head || !(await this.#hold(id, waitMs))) return false;
    this.#turns.restore(await this.#shelf.turns(id));
    this.id = id;
    this.#model = head.model;
    this.#isKept = true;
    tabMemory.set("transcript", id);
    return true;
  }

  /** Leave the transcript on the shelf and begin an empty one. */
  async renew() {
    await this.#saved; // under the present name
    this.#turns.clear();
    this.#turns.offsetS = 0;
    this.#begin();
    tabMemory.set("transcript", this.id);
    await this.#hold(this.id);
  }

  /** Delete the transcript, and begin an empty one. */
  async discard() {
    const { id } = this;
    await this.renew();
    await this.#shelf?.remove(id);
  }

  /** Save the state of a turn, once it has stable text. */
  save(turn) {
    if (!this.#shelf || !(turn.text.trim() || (turn.isFinal && this.#isKept))) return;
    const copy = { ...turn, words: turn.words.map((word) => ({ ...word })) };
    this.#saved = this.#saved.then(() => this.#put(copy)).catch(() => {});
  }

  /** The transcripts on the shelf. */
  async list() {
    await this.#saved;
    return (await this.#shelf?.list()) ?? [];
  }

  async #put(turn) {
    if (!this.#isKept) {
      this.#isKept = true;
      await this.#shelf.begin({ id: this.id, startedAt: turn.spokenAt, model: this.#model }, turn.text);
    }
    await this.#shelf.put(this.id, turn);
  }

  #begin() {
    this.id = crypto.randomUUID?.() ?? String(Math.random()); // pages without https have no randomUUID
    this.#isKept = false;
  }

  /** Lock a transcript against other tabs. Pages without https have no locks, and no microphone either. */
  async #hold(id, waitMs = LOCK_WAIT_MS) {
    if (!navigator.locks) return true;
    const isHeld = await new Promise((resolve) => {
      const signal = AbortSignal.timeout(waitMs);
      const hold = () => new Promise((release) => {
        this.#release();
        this.#release = release;
        resolve(true);
      });
      navigator.locks.request(`transcript ${id}`, { signal }, hold).catch(() => resolve(false));
    });
    return isHeld;
  }
}
