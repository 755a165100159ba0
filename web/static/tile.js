// One machine's tile: it keeps its newest reading, and draws only while it is on the screen.

import { FIELDS, age, isLive, machinePath, value } from "./format.js";
import { now, read } from "./live.js";
import { Recent, TREND_SPAN_MS } from "./spark.js";
import { CLAIMED, WORDS } from "./words.js";

const template = document.getElementById("tile");

export class Tile {
  #recent = new Recent();
  #reading = null;
  #at = 0; // when the reading was received, in milliseconds since 1970 UTC
  #numbers = new Map(); // field name → the element that shows it
  #past = false; // whether the trend before this page was opened was asked for

  constructor(device) {
    this.device = device;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.tile = this;
    const link = this.element.querySelector("a");
    link.textContent = device;
    link.href = machinePath(device);
    this.word = this.element.querySelector(".word");
    this.age = this.element.querySelector(".age");
    this.claim = this.element.querySelector(".claimed");
    this.line = this.element.querySelector("path");
    this.element.querySelector(".values").append(...FIELDS.map((field) => this.#entry(field)));
  }

  #entry(field) {
    const entry = document.createElement("div");
    entry.dataset.field = field.name;
    entry.innerHTML = `<dt>${field.short ?? field.label}</dt><dd><span class="number"></span> <span class="unit">${field.unit}</span></dd>`;
    this.#numbers.set(field.name, entry.querySelector(".number"));
    return entry;
  }

  /** Take a reading, unless a newer one is known. */
  update(reading) {
    const at = Date.parse(reading.received_at);
    if (at < this.#at) return;
    this.#reading = reading;
    this.#at = at;
    this.#recent.add(at, reading);
  }

  /** Say whether two connections send for it. */
  set claimed(claimed) {
    const text = claimed ? CLAIMED : "";
    if (this.claim.textContent !== text) this.claim.textContent = text;
  }

  /** Whether it sent lately. */
  get live() {
    return isLive(now() - this.#at);
  }

  /** Show the newest values. */
  paintValues() {
    for (const field of FIELDS) {
      const text = value(field, this.#reading[field.name]);
      const element = this.#numbers.get(field.name);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  /** Show how old they are, and the trend of the field that is shown large. */
  paintAge(lead) {
    const state = document.documentElement.dataset.link === "lost" ? "unknown" : this.live ? "live" : "silent";
    this.element.dataset.state = state;
    this.word.textContent = WORDS[state];
    this.age.textContent = age(now() - this.#at);
    this.line.setAttribute("d", this.#recent.path(lead, now()));
  }

  /** Ask once for the trend before this page was opened. */
  async readPast() {
    if (this.#past) return;
    this.#past = true;
    const start = Math.round(now() - TREND_SPAN_MS);
    const device = encodeURIComponent(this.device);
    const trend = await read(`/api/v1/devices/${device}/trend?start=${start}&steps=45`);
    const point = (at, index) => ({
      at,
      values: Object.fromEntries(FIELDS.map(({ name }) => [name, trend.fields[name].mean[index]])),
    });
    this.#recent.prepend(trend.at.map(point));
  }
}
