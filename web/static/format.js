// How values, ages and times are written, in one place for all pages.

/** The five fields: their names in the tables and for people, their units and digits. */
export const FIELDS = [
  { name: "power_kw", label: "Power", unit: "kW", digits: 2 },
  { name: "spindle_speed_rpm", label: "Spindle speed", unit: "r/min", digits: 0 },
  { name: "spindle_temperature_c", label: "Spindle temperature", short: "Temperature", unit: "°C", digits: 1 },
  { name: "coolant_flow_lpm", label: "Coolant flow", unit: "L/min", digits: 1 },
  { name: "voltage_v", label: "Voltage", unit: "V", digits: 1 },
];

const LIVE_MS = 10_000;
const HUGE = 1e7;

/** A value of a field; what would not fit into a tile comes as a power of ten. */
export function value(field, number) {
  return Math.abs(number) < HUGE ? number.toFixed(field.digits) : number.toExponential(2);
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A count, with its thousands apart. */
export const count = (number) => whole.format(number).replaceAll(",", "\u202f");

/** Whether a machine whose last record is so old is sending. */
export const isLive = (ms) => ms < LIVE_MS;

/** A span of time in its largest whole unit. */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** How long ago the last record came. */
export const age = (ms) => (ms < 2000 ? "now" : `${span(ms)} ago`);

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** A time of today without its date, another one with it; in the time zone of who looks. */
export function time(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return (today ? clock : day).format(at);
}

/** A `time` element that says when, and on hovering exactly when. */
export function timeElement(text) {
  const element = document.createElement("time");
  element.dateTime = text;
  element.title = text;
  element.textContent = time(text);
  return element;
}

/** Bytes in a unit that fits. */
export function bytes(number) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (number < 1024 || unit === "GiB") return `${number < 10 && unit !== "B" ? number.toFixed(1) : Math.round(number)} ${unit}`;
    number /= 1024;
  }
}

/** The machine's address. */
export const machinePath = (device) => `/machines/${encodeURIComponent(device)}`;
