// The log: rows as they were written, narrowed by what was asked for.

import { timeElement } from "./format.js";
import { repeat } from "./live.js";
import { Rows, cell, row } from "./rows.js";

const EVERY_MS = 5_000;

const byId = (id) => document.getElementById(id);
const form = byId("tools");

function level(name) {
  const element = document.createElement("span");
  element.className = "state";
  element.dataset.level = name;
  const word = document.createElement("span");
  word.className = "word";
  word.textContent = name;
  element.append(word);
  return element;
}

function more(info) {
  const list = document.createElement("span");
  for (const [name, value] of Object.entries(info)) {
    const line = document.createElement("small");
    line.textContent = `${name}: ${value}`;
    list.append(line);
  }
  return list;
}

function logRow(log) {
  return row(
    cell("Time", timeElement(log.timestamp)),
    cell("Level", level(log.level)),
    cell("User", log.user_id || "–"),
    cell("Message", log.message),
    cell("More", more(log.additional_info)),
    cell("From", `${log.source_component}, ${log.source_file}:${log.source_line}`),
  );
}

const rows = new Rows(byId("logs"), byId("older"), logRow, "logs");

async function show() {
  const wanted = [...new FormData(form)].filter(([, value]) => value !== "");
  const any = await rows.show(`/api/v1/logs?${new URLSearchParams([["limit", "100"], ...wanted])}`);
  byId("empty").hidden = any || !byId("older").hidden;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  rows.grown = false;
  show();
});

repeat(EVERY_MS, async () => {
  if (!rows.grown) await show();
});
