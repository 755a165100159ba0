// Orders: what was ordered, how it stands, and taking it back.

import { busy, change, reason, tell } from "./ask.js";
import { count, timeElement } from "./format.js";
import { repeat, showFailure } from "./live.js";
import { Rows, cell, row } from "./rows.js";
import { isOpen, product, stateOf } from "./standing.js";

const EVERY_MS = 3_000;

const byId = (id) => document.getElementById(id);
const mayCancel = "mayCancel" in byId("orders").dataset;
const orNone = (value) => (value === null ? "–" : count(value));

function cancelButton(order) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Cancel";
  button.setAttribute("aria-label", `Cancel order ${order.order_id}`);
  button.addEventListener("click", async () => {
    const done = busy(button);
    if (done === null) return;
    const answer = await change("POST", `/api/v1/orders/${order.id}/cancel`);
    tell(byId("outcome"), answer.status === 200 ? "" : reason(answer));
    done();
    await show();
    byId("main").focus(); // the button is gone, and rows with the focus in them stand still
  });
  return button;
}

/** How it stands, and where that is known, why. */
function state(order) {
  const element = document.createElement("span");
  const why = document.createElement("small");
  why.textContent = order.detail;
  element.append(stateOf(order), why);
  return element;
}

function orderRow(order) {
  return row(
    cell("Order", orNone(order.order_id), "number"),
    cell("Ordered", timeElement(order.received_at)),
    cell("By", order.user),
    cell("Amount", count(order.amount), "number"),
    cell("What", product(order)),
    cell("Price", orNone(order.price), "number"),
    cell("State", state(order)),
    cell("Place", orNone(order.place), "number"),
    cell("", mayCancel && isOpen(order) ? cancelButton(order) : ""),
  );
}

const rows = new Rows(byId("orders"), byId("older"), orderRow, "orders");
const whose = byId("whose");

async function show() {
  byId("empty").hidden = await rows.show(`/api/v1/orders?limit=50${whose?.value ?? ""}`);
}

whose?.addEventListener("change", () => {
  rows.grown = false;
  show().catch(showFailure);
});

repeat(EVERY_MS, async () => {
  // Who reads old ones, or is about to press a button, is not to lose the place.
  if (!rows.grown && !rows.table.contains(document.activeElement)) await show();
});
