// The trend line of a tile: the last minute and a half of one field, as an SVG path.

const SPAN_MS = 90_000;
const STEP_MS = 1_000;
const WIDTH = 100;
const HEIGHT = 30;

/** The last readings of a machine, one a second. */
export class Recent {
  #points = []; // {at, values}, ascending

  /** Take a reading; `values` by field name. */
  add(at, values) {
    const last = this.#points.at(-1);
    if (last && at - last.at < STEP_MS) return;
    this.#points.push({ at, values });
    while (this.#points[0].at < at - SPAN_MS) this.#points.shift();
  }

  /** Put older points, as `add` would have taken them, in front. */
  prepend(points) {
    const first = this.#points[0]?.at ?? Infinity;
    this.#points.unshift(...points.filter((point) => point.at < first));
  }

  /** The path of one field: time from left to right, the range of its values from bottom to top. */
  path(name, now) {
    const shown = this.#points.filter((point) => point.at >= now - SPAN_MS);
    if (shown.length < 2) return "";
    const values = shown.map((point) => point.values[name]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    // A field that hardly moves is a calm line, not its noise blown up.
    const range = Math.max(high - low, Math.abs(high) * 0.02, 1e-9);
    const floor = (high + low - range) / 2;
    const places = shown.map((point, index) => {
      const x = WIDTH * (1 - (now - point.at) / SPAN_MS);
      const y = HEIGHT * (1 - (values[index] - floor) / range);
      return `${x.toFixed(1)} ${(1 + y * (1 - 2 / HEIGHT)).toFixed(1)}`;
    });
    return `M${places.join("L")}`;
  }
}

export const TREND_SPAN_MS = SPAN_MS;
