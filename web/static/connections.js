// Connections: what came over each, and why it closed.

import { bytes, count, span, timeElement } from "./format.js";
import { now, repeat } from "./live.js";
import { Rows, cell, row } from "./rows.js";

const EVERY_MS = 5_000;
const WHY = {
  closed: "closed by the machine",
  reset: "reset by the machine",
  timed_out: "lost: no answer any more",
  unreachable: "lost: no way to it",
  tls_broken: "lost: its TLS broke",
  tls_cut_off: "closed: only TLS itself, or not listening",
  idle_timeout: "closed: sent nothing",
  no_record: "closed: no record came",
  slow_record: "closed: a record took too long",
  too_many_of_identity: "closed: too many of this identity",
  not_allowed: "closed: not allowed any more",
  revoked: "closed: its certificate was revoked",
  shutdown: "closed: server stopped",
  server_lost: "lost with the server",
};

const ORDERLY = new Set(["closed", "shutdown"]);

const byId = (id) => document.getElementById(id);

function state(connection) {
  const element = document.createElement("span");
  element.className = "state";
  const open = connection.closed_at === null;
  element.dataset.state = open ? "live" : ORDERLY.has(connection.why) ? "silent" : "unknown";
  element.innerHTML = '<span class="word"></span>';
  element.firstElementChild.textContent = open ? "open" : WHY[connection.why] ?? connection.why;
  return element;
}

function from(connection) {
  const element = document.createElement("span");
  element.textContent = connection.identity ? `${connection.identity} (${connection.peer})` : connection.peer;
  const number = document.createElement("small");
  number.textContent = `number ${connection.connection}`;
  element.append(number);
  return element;
}

const number = (label, value, className = "") => cell(label, count(value), `number ${value ? className : "none"}`);

function connectionRow(connection) {
  const end = connection.closed_at ? Date.parse(connection.closed_at) : now();
  return row(
    cell("State", state(connection)),
    cell("From", from(connection)),
    cell("Opened", timeElement(connection.opened_at)),
    cell("Lasted", span(end - Date.parse(connection.opened_at)), "number"),
    number("Stored", connection.stored),
    number("Rejected", connection.rejected, "bad"),
    number("Not kept", connection.unkept, "bad"),
    number("Empty", connection.empty),
    number("Unterminated", connection.unterminated),
    cell("Bytes", bytes(connection.bytes), "number"),
  );
}

const rows = new Rows(byId("connections"), byId("older"), connectionRow, "connections");

repeat(EVERY_MS, async () => {
  if (rows.grown) return; // who reads old ones is not to lose the place
  const any = await rows.show("/api/v1/connections?limit=100");
  byId("empty").hidden = any;
  const open = document.querySelectorAll('#connections [data-state="live"]').length;
  byId("note").textContent = any ? `${count(open)} of the newest ${count(rows.table.tBodies[0].rows.length)} are open` : "";
});
