// The way in.

import { change, reason } from "./ask.js";

const byId = (id) => document.getElementById(id);
const form = byId("login");

/** Only a page of this server. */
function next() {
  const path = new URLSearchParams(location.search).get("next") ?? "/";
  const there = new URL(path, location.origin);
  return there.origin === location.origin ? there.pathname : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  const answer = await change("POST", "/api/v1/session", {
    name: byId("name").value,
    password: byId("password").value,
  });
  button.disabled = false;
  if (answer.status === 200) {
    location.assign(next());
    return;
  }
  const outcome = byId("outcome");
  outcome.dataset.good = "false";
  outcome.textContent = answer.status === 400 ? "Name or password can't be right" : reason(answer);
  outcome.hidden = false;
  byId("password").select();
});

byId("name").focus();
