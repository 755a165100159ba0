// The last hour of a machine as charts over one axis of time: the mean as a line, lowest to highest as a band.
//
// The chart library draws on canvases and can't take colours from a style sheet, so they are read from
// the page's custom properties and the charts are made anew when the page turns dark or light.

import { FIELDS, value } from "./format.js";

const HOUR_MS = 3_600_000;
const LEAST_MS = 300_000; // what a chart shows at least
const GAP = 3; // so many times the usual distance between two points is a gap in the line
const POINT_MS = 2_000; // between two points that are added live

const CLOCK = { seconds: "%H:%M:%S", minsec: "%H:%M:%S", minutes: "%H:%M", hourmin: "%H:%M", hours: "%H:%M" };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Shown times are those of who looks; the library knows only UTC. */
const local = (ms) => ms - new Date(ms).getTimezoneOffset() * 60_000;

/** The usual distance between two points in ascending order; 0 where there are no two. */
function median(at) {
  const distances = at.slice(1).map((time, index) => time - at[index]).sort((a, b) => a - b);
  return distances[distances.length >> 1] ?? 0;
}

export class Charts {
  #host;
  #data = null;
  #next = 0; // when the next reading may be added
  #sources = new Map(); // field name → its data source
  #ranges = []; // of time; one for each chart, as a chart is a document of its own
  #views = [];

  constructor(host) {
    this.#host = host;
    Bokeh.set_log_level("warn");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Show a trend as the API gives it. */
  show(trend) {
    const gap = GAP * Math.max(trend.step_ms, median(trend.at));
    this.#data = { at: trend.at, fields: trend.fields, gap, end: trend.end };
    this.#next = trend.end; // what came before is in the trend
    this.#draw();
  }

  /** Add a reading at the right end. */
  add(at, reading) {
    const data = this.#data;
    if (!data || at < this.#next) return;
    this.#next = at + POINT_MS;
    const old = data.at.findIndex((time) => time >= at - HOUR_MS);
    if (old > 0) data.at.splice(0, old);
    data.at.push(at);
    data.end = at;
    for (const { name } of FIELDS) {
      for (const values of Object.values(data.fields[name])) {
        if (old > 0) values.splice(0, old);
        values.push(reading[name]);
      }
    }
    this.#fill();
  }

  #fill() {
    for (const field of FIELDS) {
      const columns = this.#columns(field.name);
      this.#sources.get(field.name).data = columns;
      this.#host.querySelector(`[data-field="${field.name}"] .summary`).textContent = this.#summary(field);
    }
    const { at, end } = this.#data;
    // A machine that began to send a while ago fills the chart all the same.
    const span = Math.min(HOUR_MS, Math.max(LEAST_MS, (end - (at[0] ?? 0)) * 1.05));
    for (const range of this.#ranges) range.setv({ start: local(end - span), end: local(end) });
  }

  /** The columns of a field, with a hole where the machine was silent, and what stands alone as a dot. */
  #columns(name) {
    const { at, fields, gap } = this.#data;
    const { low, mean, high } = fields[name];
    const columns = { at: [], low: [], mean: [], high: [], dot: [] };
    const push = (time, ...values) => {
      columns.at.push(local(time));
      ["low", "mean", "high", "dot"].forEach((column, index) => columns[column].push(values[index]));
    };
    at.forEach((time, index) => {
      const before = time - (at[index - 1] ?? -Infinity) > gap;
      const after = (at[index + 1] ?? Infinity) - time > gap;
      if (before) push(time - 1, NaN, NaN, NaN, NaN);
      push(time, low[index], mean[index], high[index], before && after ? mean[index] : NaN);
    });
    return columns;
  }

  /** The chart in words. */
  #summary(field) {
    const { low, mean, high } = this.#data.fields[field.name];
    if (!mean.length) return "no readings";
    const least = low.reduce((a, b) => Math.min(a, b));
    const most = high.reduce((a, b) => Math.max(a, b));
    const average = mean.reduce((sum, each) => sum + each / mean.length, 0);
    return `${value(field, least)} to ${value(field, most)}, mean ${value(field, average)} ${field.unit}`;
  }

  #draw() {
    if (!this.#data) return;
    for (const view of this.#views) view.remove();
    this.#views = [];
    this.#sources.clear();
    this.#host.replaceChildren();
    this.#ranges = [];
    for (const field of FIELDS) this.#panel(field);
    this.#fill();
  }

  #panel(field) {
    const panel = document.createElement("figure");
    panel.dataset.field = field.name;
    panel.innerHTML = `<figcaption><span class="label">${field.label}</span> <span class="unit">${field.unit}</span> <span class="summary"></span></figcaption><div class="plot" aria-hidden="true"></div>`;
    this.#host.append(panel);
    const source = new Bokeh.ColumnDataSource({ data: { at: [], low: [], mean: [], high: [], dot: [] } });
    this.#sources.set(field.name, source);
    const range = new Bokeh.Range1d({ start: 0, end: 1 });
    this.#ranges.push(range);
    const view = Bokeh.Plotting.show(figure(field, source, range), panel.lastElementChild);
    view.then((shown) => this.#views.push(shown));
  }
}

function figure(field, source, range) {
  const plot = Bokeh.Plotting.figure({
    height: 170,
    sizing_mode: "stretch_width",
    x_axis_type: "datetime",
    x_range: range,
    tools: [],
    toolbar_location: null,
    background_fill_color: null,
    border_fill_color: null,
    outline_line_color: null,
    min_border_left: 56,
  });
  const line = colour("--chart");
  plot.varea({ x: { field: "at" }, y1: { field: "low" }, y2: { field: "high" }, source, fill_color: line, fill_alpha: 0.25 });
  plot.line({ x: { field: "at" }, y: { field: "mean" }, source, line_color: line, line_width: 2 });
  plot.scatter({ x: { field: "at" }, y: { field: "dot" }, source, size: 5, line_color: null, fill_color: line });
  plot.add_tools(hover(field));
  for (const axis of [plot.xaxis, plot.yaxis]) {
    axis.axis_line_color = null;
    axis.major_tick_line_color = null;
    axis.minor_tick_line_color = null;
    axis.major_label_text_color = colour("--muted");
    axis.major_label_text_font_size = "13px";
  }
  plot.xaxis.formatter = new Bokeh.DatetimeTickFormatter(CLOCK);
  plot.xgrid.grid_line_color = null;
  plot.ygrid.grid_line_color = colour("--line");
  return plot;
}

function hover(field) {
  const format = `@mean{0.${"0".repeat(field.digits)}} ${field.unit}`;
  return new Bokeh.HoverTool({
    mode: "vline",
    tooltips: [["time", "@at{%H:%M:%S}"], ["mean", format]],
    formatters: { "@at": "datetime" },
  });
}
