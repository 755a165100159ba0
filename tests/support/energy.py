"""What somebody who has nothing but rows can say about a machine."""

import numpy as np

from simulator.machine import State, classify
from simulator.truth import MAX_GAP_S

Row = tuple[float, tuple[float, float, float, float, float]]


def recompute(rows: list[Row]) -> tuple[float, dict[str, float]]:
    """Energy in kWh and seconds per state of one device, from (time, values) in the order of time."""
    times, power = np.array([row[0] for row in rows]), np.array([row[1][3] for row in rows])
    flow = np.array([row[1][2] for row in rows])
    gaps_s, state = np.diff(times), classify(flow, power)[:-1]
    passed_s = np.where(gaps_s < MAX_GAP_S, gaps_s, 0.0)
    kwh = float(((power[1:] + power[:-1]) / 2 * passed_s).sum() / 3600)
    return kwh, {one.name.lower(): float(passed_s[state == one].sum()) for one in State}
