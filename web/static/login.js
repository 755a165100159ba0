// The way in.

import { busy, change, reason, tell } from "./ask.js";

const byId = (id) => document.getElementById(id);
const form = byId("login");

/** Only a page of this server; with its origin, as a path such as `//host` would lead elsewhere. */
function next() {
  const path = new URLSearchParams(location.search).get("next") ?? "/";
  const there = URL.canParse(path, location.origin) ? new URL(path, location.origin) : null;
  return there?.origin === location.origin ? there.origin + there.pathname : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const done = busy(form.querySelector("button"));
  if (done === null) return;
  tell(byId("outcome"), "");
  const answer = await change("POST", "/api/v1/session", {
    name: byId("name").value,
    password: byId("password").value,
  });
  if (answer.status === 200) {
    location.assign(next());
    return;
  }
  tell(byId("outcome"), answer.status === 400 ? "Name or password can't be right" : reason(answer));
  byId("password").focus();
  byId("password").select();
  done();
});

byId("name").focus();
