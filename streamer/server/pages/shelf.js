// Transcripts kept in this browser (IndexedDB), so that they survive a reload, a crash and a closed tab. At most KEPT of
// them: a new one removes the oldest.

const KEPT = 20;
const TITLE_LETTERS = 40;

export class Shelf {
  #database;

  constructor(database) {
    this.#database = database;
  }

  /** Open the shelf; null where the browser keeps nothing, as in some private windows. */
  static async open() {
    try {
      const request = indexedDB.open("transcripts", 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("transcripts", { keyPath: "id" });
        request.result.createObjectStore("turns"); // key: [id of the transcript, n of the turn]
      };
      return new Shelf(await done(request));
    } catch {
      return null;
    }
  }

  /** All transcripts, { id, startedAt, model, title }, the newest first. */
  async list() {
    const all = await done(this.#stores("readonly").transcripts.getAll());
    return all.sort((a, b) => b.startedAt - a.startedAt);
  }

  /** The turns of a transcript, in order. */
  async turns(id) {
    return done(this.#stores("readonly").turns.getAll(range(id)));
  }

  /** Keep a transcript: `head` is { id, startedAt (as Date.now), model }. */
  async begin(head, firstWords) {
    const title = [...firstWords.trim()].slice(0, TITLE_LETTERS).join("");
    await done(this.#stores("readwrite").transcripts.put({ ...head, title }));
    for (const { id } of (await this.list()).slice(KEPT)) await this.remove(id);
  }

  /** Keep the state of one turn. */
  async put(id, turn) {
    await done(this.#stores("readwrite").turns.put(turn, [id, turn.n]));
  }

  /** Forget a transcript and its turns. */
  async remove(id) {
    const { transcripts, turns } = this.#stores("readwrite");
    await Promise.all([done(transcripts.delete(id)), done(turns.delete(range(id)))]);
  }

  #stores(mode) {
    const transaction = this.#database.transaction(["transcripts", "turns"], mode);
    return { transcripts: transaction.objectStore("transcripts"), turns: transaction.objectStore("turns") };
  }
}

function range(id) {
  return IDBKeyRange.bound([id, 0], [id, Infinity]);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
