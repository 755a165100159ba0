// The way to the server: live events, and requests; the frame shows whether it works.
//
// An event stream is held only while the page is seen: browsers open six connections to a server at most,
// and a phone in a pocket need not listen. When it was away, the page is told, so that it reads anew what
// it missed.

import { logIn, reason } from "./ask.js";

const STATES = {
  connecting: "Connecting",
  live: "Connected",
  lost: "No connection, trying again",
};

const RETRY_MS = 3000;

/** Show in the frame how the connection to the server is, in these words if there are better ones. */
function showLink(state, words = STATES[state]) {
  const link = document.getElementById("link");
  link.hidden = false;
  document.documentElement.dataset.link = state;
  if (link.dataset.link === state && link.textContent === words) return;
  link.dataset.link = state;
  link.firstElementChild.textContent = words;
}

/** The server is there and refuses; its words are the message. */
class Refusal extends Error {}

/** Show in the frame that a request came to nothing, and why: the server may be there, and what it asks away. */
export function showFailure(error) {
  if (error instanceof Refusal) showLink("lost", upper(error.message));
  else showLink("lost");
}

const upper = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/**
 * Follow the newest readings for as long as the page is seen.
 *
 * @param {string} path of the event stream
 * @param {{frame: (frame: object) => void, opened: () => void}} page what to do with a frame; what to do
 *   when the stream begins, again too
 */
export function follow(path, page) {
  let source = null;
  let retry = null;

  function open() {
    close();
    showLink("connecting");
    source = new EventSource(path);
    source.addEventListener("open", () => {
      showLink("live");
      page.opened();
    });
    source.addEventListener("latest", (event) => page.frame(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      showLink("lost");
      // The browser tries again by itself only if the server went away, not if it refused.
      if (source.readyState !== EventSource.CLOSED) return;
      retry = setTimeout(open, RETRY_MS);
      read("/api/v1/session").catch(() => {}); // it may have been a login that is over
    });
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}

/** Read JSON; throws when there is no good answer. */
export async function read(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) logIn();
  if (answer.ok) return answer.json();
  throw new Refusal(reason({ status: answer.status, body: await answer.json().catch(() => null) }));
}

/** Do something now and then while the page is seen; the frame shows whether it works. */
export function repeat(everyMs, action) {
  async function round() {
    if (!document.hidden) {
      try {
        await action();
        showLink("live");
      } catch (error) {
        showFailure(error);
      }
    }
    setTimeout(round, everyMs);
  }
  showLink("connecting");
  document.addEventListener("visibilitychange", () => document.hidden || action().catch(() => {}));
  round();
}

let offsetMs = 0;

/** Learn the server's clock, so that ages don't depend on a tablet's. */
export function setClock(serverMs) {
  offsetMs = serverMs - Date.now();
}

/** The server's clock. */
export const now = () => Date.now() + offsetMs;
