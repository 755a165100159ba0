// Order Request Generator: one order at a time, and how it stands afterwards.
//
// A key goes with each order. It stays the same until the server has said what became of the order, so a second
// click, or another try after a lost answer, makes no second one.

import { busy, change, logIn, reason, tell } from "./ask.js";
import { count } from "./format.js";
import { read, repeat } from "./live.js";
import { isOpen, isOver, stateOf } from "./standing.js";

const EVERY_MS = 2_000;
const DOUBLE_CLICK_MS = 600;

const byId = (id) => document.getElementById(id);
const form = byId("order");

let key = newKey();
let shown = null;

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function answered(status, words) {
  tell(byId("outcome"), status === 0 ? words : `Code: ${status}. ${words}`, status === 200);
}

function show(order) {
  shown = order;
  byId("standing").hidden = false;
  byId("which").textContent = order.order_id === null ? "Your order" : `Order ${order.order_id}`;
  byId("state").textContent = stateOf(order);
  byId("place").textContent = order.place === null ? "–" : count(order.place);
  byId("price").textContent = order.price === null ? "–" : count(order.price);
  byId("cancel").hidden = !isOpen(order);
}

function asked() {
  const fields = Object.fromEntries(new FormData(form));
  return { ...fields, amount: Number(fields.amount) };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const done = busy(byId("finalize"));
  if (done === null) return;
  tell(byId("outcome"), "");
  // The second click of a double one may come after the answer, and is meant for the same order.
  const rested = new Promise((resolve) => setTimeout(resolve, DOUBLE_CLICK_MS));
  const answer = await change("POST", "/api/v1/orders", asked(), { "Idempotency-Key": key });
  rested.then(done);
  if (answer.status === 401) return logIn();
  // 502 to 504, or no answer: another try has to be the same order.
  if (answer.status > 0 && answer.status < 500) key = newKey();
  answered(answer.status, answer.status === 200 ? answer.body.message : reason(answer));
  if (answer.status === 200) show(answer.body.order);
  else if (answer.body?.order) show(await read(`/api/v1/orders/${answer.body.order}`));
});

// Another order is another key, whatever became of the one before.
form.addEventListener("change", () => (key = newKey()));

byId("cancel").addEventListener("click", async () => {
  const answer = await change("POST", `/api/v1/orders/${shown.id}/cancel`);
  if (answer.status === 200) show(answer.body);
  else answered(answer.status, reason(answer));
});

repeat(EVERY_MS, async () => {
  if (shown === null || isOver(shown)) return;
  const order = await read(`/api/v1/orders/${shown.id}`);
  if (shown.id === order.id) show(order);
});
