// The way out, on every page of somebody who is logged in.

import { change } from "./ask.js";

document.getElementById("leave").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { status } = await change("DELETE", "/api/v1/session");
  // Nobody is to walk away from a session that goes on.
  if (status === 204 || status === 401) location.assign("/login");
  else event.target.querySelector("button").textContent = "Still logged in; try again";
});
