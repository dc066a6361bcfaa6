// Keeps the screen on while captions are shown. A browser lets it sleep again whenever it hides the page, so it is asked
// again when the page is back.

export class WakeLock {
  #isWanted = false;
  #lock = null;

  constructor() {
    document.addEventListener("visibilitychange", () => { if (this.#isWanted && !document.hidden) this.#ask(); });
  }

  /** Keep the screen on from now on. */
  async keep() {
    this.#isWanted = true;
    await this.#ask();
  }

  /** Let the screen sleep. */
  release() {
    this.#isWanted = false;
    this.#lock?.release();
    this.#lock = null;
  }

  async #ask() {
    const lock = await navigator.wakeLock?.request("screen").catch(() => null);
    this.#lock?.release();
    this.#lock = lock;
    if (!this.#isWanted) this.release(); // while the browser was asked
  }
}
