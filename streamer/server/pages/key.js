// The API key of a page: from the address (#key=…, the part that a browser sends to no server), else as typed in this tab.

import { tabMemory } from "./storage.js";

/** The key, or undefined. */
export function pageKey() {
  return fragment().get("key") ?? tabMemory.get("key") ?? undefined;
}

/** Ask for a key in a form; `onKey` is called when one was given. */
export function askKey(form, onKey) {
  const input = form.querySelector("input");
  tabMemory.remove("key");
  form.hidden = false;
  input.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    tabMemory.set("key", input.value.trim());
    forgetAddress();
    input.value = "";
    form.hidden = true;
    onKey();
  };
}

/** Drop the refused key of the address: it would hide the typed one. */
function forgetAddress() {
  const rest = fragment();
  rest.delete("key");
  history.replaceState(null, "", `${location.pathname}${location.search}${rest.size ? `#${rest}` : ""}`);
}

function fragment() {
  return new URLSearchParams(location.hash.slice(1));
}
