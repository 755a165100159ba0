// Changing something on the server, and what it says to that.

const csrf = () => document.querySelector('meta[name="csrf"]')?.content;

/**
 * Send a change.
 *
 * @returns {Promise<{status: number, body: object | null}>} status 0 where no answer came
 */
export async function change(method, path, body = undefined, headers = {}) {
  const token = csrf();
  const all = { Accept: "application/json", ...headers };
  if (token) all["X-CSRF-Token"] = token;
  if (body !== undefined) all["Content-Type"] = "application/json";
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await fetch(path, { method, headers: all, body: text });
    const said = await answer.text();
    return { status: answer.status, body: said ? JSON.parse(said) : null };
  } catch {
    return { status: 0, body: null };
  }
}

/**
 * Take a button out of use while its answer is awaited. It keeps the focus, which a disabled one would lose.
 *
 * @returns {(() => void) | null} what puts it back; null if it is out of use already
 */
export function busy(button) {
  if (button.ariaDisabled === "true") return null;
  button.ariaDisabled = "true";
  return () => (button.ariaDisabled = null);
}

/** Show what came of it; without words nothing, so that the same words are said anew. */
export function tell(outcome, words, good = false) {
  outcome.dataset.good = String(good);
  outcome.textContent = words;
  outcome.hidden = words === "";
}

/** Go to the way in, and from there back here. */
export function logIn() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
}

/** What was wrong, in the words of the answer. */
export const reason = ({ status, body }) =>
  status === 0 ? "No connection to the server" : (body?.detail || body?.title || "The server failed");
