// What the pages remember. Where the browser keeps nothing, as with site data blocked, they remember it until they are left.

class Memory {
  #storage;
  #rest = new Map(); // what the browser does not keep

  /** `open` returns the browser's storage; it may throw. */
  constructor(open) {
    try {
      this.#storage = open();
    } catch {
      this.#storage = null;
    }
  }

  /** The text under a key; null: there is none. */
  get(key) {
    return this.#rest.get(key) ?? this.#storage?.getItem(key) ?? null;
  }

  /** Remember a value as text. */
  set(key, value) {
    this.remove(key);
    try {
      this.#storage.setItem(key, value);
    } catch {
      this.#rest.set(key, String(value));
    }
  }

  /** Forget what is under a key. */
  remove(key) {
    this.#rest.delete(key);
    this.#storage?.removeItem(key);
  }
}

/** In this browser, for all pages. */
export const browserMemory = new Memory(() => localStorage);
/** In this tab, over reloads. */
export const tabMemory = new Memory(() => sessionStorage);
