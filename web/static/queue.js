// The supplier's queue: what is made, and what waits for it.

import { count, timeElement } from "./format.js";
import { repeat } from "./live.js";
import { Rows, cell, row } from "./rows.js";

const EVERY_MS = 2_000;

const MOST = 200;

const byId = (id) => document.getElementById(id);

function queueRow(entry) {
  return row(
    cell("Place", entry.place === null ? "–" : count(entry.place), "number"),
    cell("Order", count(entry.order_id), "number"),
    cell("State", entry.state),
    cell("Amount", count(entry.amount), "number"),
    cell("Product", entry.product),
    cell("Received", entry.received_at ? timeElement(entry.received_at) : "–"),
  );
}

const size = (length) => (length === MOST ? `The first ${MOST} orders` : length === 1 ? "1 order" : `${length} orders`);

const rows = new Rows(byId("queue"), byId("older"), queueRow, "orders");

repeat(EVERY_MS, async () => {
  const any = await rows.show(`/api/v1/queue?limit=${MOST}`);
  byId("empty").hidden = any;
  byId("note").textContent = any ? size(rows.table.tBodies[0].rows.length) : "";
});
