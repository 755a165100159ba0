// One machine: live values, its last hour, its rejects.

import { Charts } from "./charts.js";
import { FIELDS, age, isLive, timeElement, value } from "./format.js";
import { follow, now, read, setClock } from "./live.js";
import { Rows, cell, row } from "./rows.js";
import { CLAIMED, WORDS } from "./words.js";

const byId = (id) => document.getElementById(id);
const device = byId("main").dataset.device;
const path = `/api/v1/devices/${encodeURIComponent(device)}`;

// ---- now

const numbers = new Map();
for (const field of FIELDS) {
  const entry = document.createElement("div");
  entry.dataset.field = field.name;
  entry.innerHTML = `<dt>${field.label}</dt><dd><span class="number">–</span> <span class="unit">${field.unit}</span></dd>`;
  numbers.set(field.name, entry.querySelector(".number"));
  byId("now").append(entry);
}

let last = 0; // when the newest reading was received

function take(reading) {
  const at = Date.parse(reading.received_at);
  if (at < last) return;
  last = at;
  for (const field of FIELDS) numbers.get(field.name).textContent = value(field, reading[field.name]);
  charts.add(at, reading);
  paintAge();
}

let isTold = false; // whether the server has told of claims since we are connected

function paintClaim(claimed) {
  const text = claimed ? CLAIMED : "";
  if (byId("claimed").textContent !== text) byId("claimed").textContent = text; // else it is read out again
}

function paintAge() {
  const lost = document.documentElement.dataset.link === "lost";
  const state = lost ? "unknown" : isLive(now() - last) ? "live" : "silent";
  const head = byId("machine");
  head.dataset.state = state;
  head.querySelector(".word").textContent = WORDS[state];
  head.querySelector(".age").textContent = last ? age(now() - last) : "";
}

async function readLatest() {
  const latest = await read(`${path}/latest`);
  take(latest);
  if (!isTold) paintClaim(latest.claimed_twice); // else what was read may be older
}

// ---- last hour

const charts = new Charts(byId("charts"));

async function readHour() {
  const note = byId("hour-note");
  try {
    const trend = await read(`${path}/trend?steps=360`);
    setClock(trend.end);
    charts.show(trend);
    note.textContent = trend.readings ? "" : "No reading in the last hour.";
  } catch {
    note.textContent = "The last hour can't be read at the moment.";
  }
}

// ---- rejects

const REASONS = {
  oversize: "too long",
  truncated: "cut off when the connection ended",
  control: "line break or NUL inside",
  fields: "not six fields",
  device_id: "no machine's name",
  number: "not a number",
  overflow: "number too large",
  implausible: "outside its limits",
  wrong_identity: "sent by somebody else",
};

function rejectRow(reject) {
  const field = FIELDS.find(({ name }) => name === reject.field)?.label.toLowerCase();
  const reason = REASONS[reject.reason] ?? reject.reason;
  const raw = document.createElement("code");
  raw.textContent = reject.text;
  return row(
    cell("When", timeElement(reject.received_at)),
    cell("Why", field ? `${field}: ${reason}` : reason),
    cell("Bytes", raw),
    cell("Place", `byte ${reject.place}`),
    cell("Connection", `${reject.connection}, ${reject.peer}`),
  );
}

const rejects = new Rows(byId("rejects"), byId("older"), rejectRow, "rejects");

async function readRejects() {
  if (rejects.grown) return; // who reads old ones is not to lose the place
  const note = byId("rejects-note");
  try {
    const any = await rejects.show(`/api/v1/rejects?device=${encodeURIComponent(device)}&limit=20`);
    note.textContent = any ? "" : "None: every record of this machine was understood.";
  } catch {
    note.textContent = "The rejects can't be read at the moment.";
  }
}

follow(`/api/v1/live?device=${encodeURIComponent(device)}`, {
  frame(frame) {
    setClock(frame.now);
    frame.devices.forEach(take);
    if (!frame.claimed_twice) return;
    isTold = true;
    paintClaim(frame.claimed_twice.length);
  },
  async opened() {
    isTold = false;
    await Promise.allSettled([readHour(), readRejects(), readLatest()]);
  },
});
setInterval(paintAge, 1000);
setInterval(() => document.hidden || readRejects(), 10_000);
