// What a page knows of its server without a session.

const ROOT = new URL("..", import.meta.url); // of the daemon, which a proxy may serve under a path

/** The address of a path of the daemon, such as `watch/stage`, for people and browsers. */
export function addressOf(path) {
  return new URL(path, ROOT);
}

/** Facts for the page (`/info`); null: the server does not answer. */
export async function serverInfo() {
  const response = await fetch(addressOf("info"), { cache: "no-store" }).catch(() => null);
  return response?.ok ? response.json() : null;
}

/** Why no connection can be opened, in a sentence for people; what they can do depends on the page. */
export async function connectionTrouble() {
  const isUp = await fetch(addressOf("healthz"), { cache: "no-store" }).then(({ ok }) => ok, () => false);
  if (isUp) return "The server answers, but its WebSocket was cut: if that goes on, a proxy between you and it may not pass WebSockets on.";
  return `The server ${location.host} does not answer.`;
}
