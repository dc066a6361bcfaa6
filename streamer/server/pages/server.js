// What a page knows of its server without a session.

/** Facts for the page (`/info`); null: the server does not answer. */
export async function serverInfo() {
  const response = await fetch("/info", { cache: "no-store" }).catch(() => null);
  return response?.ok ? response.json() : null;
}

/** Why no connection can be opened, in words for people. */
export async function connectionTrouble() {
  const isUp = await fetch("/healthz", { cache: "no-store" }).then(({ ok }) => ok, () => false);
  if (isUp) return "The server answers, but its WebSocket was cut. If that goes on, a proxy between you and it may not pass WebSockets on.";
  return `The server ${location.host} does not answer. Is the daemon still running? This page tries again by itself.`;
}
