// The way out, on every page of somebody who is logged in.

import { change } from "./ask.js";

document.getElementById("leave").addEventListener("submit", async (event) => {
  event.preventDefault();
  await change("DELETE", "/api/v1/session");
  location.assign("/login");
});
