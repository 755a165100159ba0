// All machines as tiles. Thousands of tiles are fine: only those on the screen are drawn.

import { FIELDS, count } from "./format.js";
import { follow, read, setClock } from "./live.js";
import { Tile } from "./tile.js";

const MANY = 8; // from so many machines on there is something to search
const PARALLEL = 2; // requests for past trends at a time
const RATE_MS = 5_000; // over which the rate is taken

const byId = (id) => document.getElementById(id);
const list = byId("tiles");
const tiles = new Map(); // device → Tile, in the order of their names
const visible = new Set();
let claimed = null; // devices that two connections send for, once the server has told since we are connected
const names = new Intl.Collator("en", { numeric: true });

// ---- which field is shown large

const lead = byId("lead");
lead.append(...FIELDS.map((field) => new Option(field.label.toLowerCase(), field.name)));
lead.value = localStorage.getItem("lead") ?? FIELDS[0].name;
if (!lead.value) lead.value = FIELDS[0].name;

function showLead() {
  list.dataset.lead = lead.value;
  localStorage.setItem("lead", lead.value);
  paintAges();
}

// ---- tiles

function tileOf(device) {
  let tile = tiles.get(device);
  if (!tile) {
    tile = new Tile(device);
    tile.claimed = claimed?.has(device);
    tiles.set(device, tile);
    place(tile);
    seen.observe(tile.element);
  }
  return tile;
}

/** Put a new tile where its name belongs; most come in order, at the end. */
function place(tile) {
  const after = (element) => names.compare(element.tile.device, tile.device) < 0;
  let [low, high] = [0, list.children.length];
  if (high && after(list.lastElementChild)) low = high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (after(list.children[middle])) low = middle + 1;
    else high = middle;
  }
  list.insertBefore(tile.element, list.children[low] ?? null);
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) {
      visible.add(target.tile);
      target.tile.paintValues();
      target.tile.paintAge(lead.value);
      wanted.push(target.tile);
    } else visible.delete(target.tile);
  }
  readPasts();
}, { rootMargin: "200px" });

const wanted = [];
let reading = 0;

/** Ask for the past of the tiles on the screen, a few at a time, the last ones seen first. */
async function readPasts() {
  while (reading < PARALLEL && wanted.length) {
    reading += 1;
    const tile = wanted.pop();
    if (visible.has(tile)) await tile.readPast().then(() => tile.paintAge(lead.value), () => {});
    reading -= 1;
  }
}

function paintAges() {
  for (const tile of visible) tile.paintAge(lead.value);
}

// ---- find and show

function filter() {
  const text = byId("find").value.trim().toLowerCase();
  const show = byId("show").value;
  let shown = 0;
  for (const tile of tiles.values()) {
    const fits = tile.device.toLowerCase().includes(text) && (show === "all" || tile.live === (show === "live"));
    if (tile.element.hidden === fits) tile.element.hidden = !fits;
    shown += fits;
  }
  const all = shown === tiles.size;
  const message = all ? "" : shown ? `${count(shown)} of ${count(tiles.size)} shown` : "No machine fits";
  if (byId("shown").textContent !== message) byId("shown").textContent = message;
}

// ---- overview

let counts = []; // {at, records} of the last seconds

function rate() {
  counts = counts.filter((entry) => entry.at > performance.now() - RATE_MS);
  if (counts.length < 2) return 0;
  const [first, last] = [counts[0], counts.at(-1)];
  return ((last.records - first.records) / (last.at - first.at)) * 1000;
}

function paintOverview() {
  const live = [...tiles.values()].filter((tile) => tile.live).length;
  byId("empty").hidden = tiles.size > 0;
  byId("overview").hidden = tiles.size === 0;
  byId("tools").hidden = tiles.size < MANY;
  byId("machines-count").textContent = count(tiles.size);
  byId("live-count").textContent = count(live);
  byId("other-count").textContent = count(tiles.size - live);
  byId("rate").textContent = count(rate());
}

// ---- what comes from the server

function takeFrame(frame) {
  setClock(frame.now);
  counts.push({ at: performance.now(), records: frame.records });
  const fresh = tiles.size;
  for (const reading of frame.devices) {
    const tile = tileOf(reading.device_id);
    tile.update(reading);
    if (visible.has(tile)) tile.paintValues();
  }
  if (frame.claimed_twice) {
    claimed = new Set(frame.claimed_twice);
    for (const tile of tiles.values()) tile.claimed = claimed.has(tile.device);
  }
  if (tiles.size !== fresh) paintAll();
}

async function readAll() {
  counts = [];
  claimed = null;
  let path = "/api/v1/devices?limit=1000";
  while (path) {
    const page = await read(path);
    for (const device of page.devices) {
      const tile = tileOf(device.device_id);
      tile.update(device.latest);
      if (!claimed) tile.claimed = device.claimed_twice; // else what was read may be older
    }
    path = page.next;
  }
  for (const tile of visible) tile.paintValues();
  paintAll();
}

function paintAll() {
  paintOverview();
  paintAges();
  filter();
}

lead.addEventListener("change", showLead);
byId("find").addEventListener("input", filter);
byId("show").addEventListener("change", filter);
byId("tools").addEventListener("submit", (event) => event.preventDefault());
showLead();
follow("/api/v1/live", { frame: takeFrame, opened: () => readAll().catch(() => {}) });
setInterval(() => document.hidden || paintAll(), 1000);
