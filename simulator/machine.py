"""How a machine behaves: its states, and the physics that its five values follow.

A machine is in one of five states and leaves it when its time there is over, for one of the states in
`TRANSITIONS`, or is torn out of it by heat:

              +-----------------------------+
              v                             |
    OFF --> IDLE --> WARMING --> CUTTING ---+
     ^       ^ |        |           |
     |       | |        +---hot-----+---> FAULT
     +-------|-+                            |
     +-------+------------------------------+

Warming lasts at least until the spindle is warm, a fault at least until it has cooled down. Coolant may
fail during a cut: a trickle is left, the spindle heats up, and at `TRIP_C` the machine stops itself.

Each step is exact for inputs that are constant over it, so any time between two records is stable:

- speed and flow approach their set point as first-order systems: x + (target - x)(1 - exp(-dt/tau));
- temperature is a lumped heat capacity, C dT/dt = Q - h (T - ambient), with h growing with the coolant
  (Incropera, DeWitt: Fundamentals of Heat and Mass Transfer, the lumped capacitance method);
- mechanical power is torque times angular speed; bearing friction grows with the square of the speed;
- voltage and cutting load wander back to their means as Ornstein-Uhlenbeck processes (Gillespie, Exact
  numerical simulation of the Ornstein-Uhlenbeck process, Phys. Rev. E 54, 1996); voltage dips with power.

Everything here is a pure function over arrays of machines, float64[n] unless said otherwise.
"""

import math
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.noise import Floats, Words, bell, uniform

States = NDArray[np.int8]
Indices = NDArray[np.intp]


class State(IntEnum):
    """What a machine is doing."""

    OFF = 0
    """Only the control cabinet is alive."""

    IDLE = 1
    """Drives ready, spindle standing or running down."""

    WARMING = 2
    """Spindle turning slowly without a tool in the material, coolant shut."""

    CUTTING = 3
    """Tool in the material, coolant open."""

    FAULT = 4
    """Stopped itself; drives without power."""


TRANSITIONS: Final[dict[State, dict[State, float]]] = {
    State.OFF: {State.IDLE: 1.0},
    State.IDLE: {State.WARMING: 0.85, State.OFF: 0.15},
    State.WARMING: {State.CUTTING: 0.95, State.IDLE: 0.05},
    State.CUTTING: {State.IDLE: 1.0},
    State.FAULT: {State.IDLE: 0.7, State.OFF: 0.3},
}
"""Where a state leads when its time is over, with the share of each way."""

TRIPS: Final[dict[State, State]] = {State.WARMING: State.FAULT, State.CUTTING: State.FAULT}
"""Where a state leads, at once, when the spindle is too hot."""

DWELL_S: Final = np.array([40.0, 20.0, 15.0, 90.0, 25.0])
"""Mean seconds in each state; drawn evenly between half and one and a half times that."""

COOLANT_FAILS: Final = 0.15
"""Share of the cuts in which the coolant fails at some time."""

TRIP_C: Final = 90.0
"""The spindle stops itself at this temperature."""

RESTART_C: Final = 50.0
"""A fault is not left above this temperature."""

WARM_C: Final = 30.0
"""Warming is not over below this temperature."""

_BASE_KW: Final = np.array([0.03, 0.45, 0.95, 1.55, 0.18])
"""Cabinet; and drives; and magnetised motor; and coolant pump; a fault leaves cabinet and alarm."""

_SPEED_SHARE: Final = np.array([0.0, 0.0, 0.5, 1.0, 0.0])
_SPEED_TAU_S: Final = 0.8
_FLOW_TAU_S: Final = 0.5
_TRICKLE: Final = 0.05
_FRICTION_KW: Final = 1.5
_FRICTION_RPM: Final = 12000.0
_TORQUE_NM: Final = 8.0
_EFFICIENCY: Final = 0.85
_CUT_HEAT: Final = 0.15
_CAPACITY_KJ_K: Final = 0.4
_AIR_KW_K: Final = 0.005
_COOLANT_KW_K: Final = 0.006
_DIP_V_PER_KW: Final = 0.8
_LOAD_MEAN: Final = 0.6


class _Wander(NamedTuple):
    """How far a value strays from its mean, and how long it takes to come back."""

    sigma: float
    tau_s: float


_LOAD: Final = _Wander(sigma=0.15, tau_s=5.0)
_VOLTAGE: Final = _Wander(sigma=1.5, tau_s=30.0)

CHANNELS: Final = 8
"""Random words that one step of one machine takes."""


class Traits(NamedTuple):
    """What a machine keeps all its life."""

    speed_rpm: Floats
    flow_lpm: Floats
    supply_v: Floats
    ambient_c: Floats

    def take(self, which: Indices) -> "Traits":
        """Those of some machines: intp[n]."""
        return Traits._make(trait[which] for trait in self)


class Condition(NamedTuple):
    """What changes from record to record."""

    state: States
    left_s: Floats
    """Time left in this state."""

    coolant_s: Floats
    """Time left until the coolant fails; infinite where it doesn't."""

    temperature_c: Floats
    speed_rpm: Floats
    flow_lpm: Floats
    load: Floats
    """Share of the torque that the cut takes, 0 to 1."""

    line_v: Floats
    """The supply's voltage before the dip."""

    power_kw: Floats

    def take(self, which: Indices) -> "Condition":
        """That of some machines: intp[n]."""
        return Condition._make(part[which] for part in self)

    def put(self, which: Indices, new: "Condition") -> None:
        """Change that of some machines: intp[n]."""
        for name, part in new._asdict().items():
            getattr(self, name)[which] = part


def classify(flow_lpm: Floats, power_kw: Floats) -> States:
    """Tell a machine's state from what it says, record by record, without a memory.

    Below 0.1 kW it is off, below 0.3 kW in fault, below 0.7 kW idle; above that it is cutting where
    coolant flows (0.1 L/min or more; also a failed supply leaves that much), and else warming.

    Args:
        flow_lpm: float64[n], coolant flow.
        power_kw: float64[n], power.

    Returns:
        int8[n], values of `State`
    """
    driven = np.where(flow_lpm >= 0.1, State.CUTTING, State.WARMING)
    choices = [State.OFF, State.FAULT, State.IDLE]
    return np.select([power_kw < 0.1, power_kw < 0.3, power_kw < 0.7], choices, driven).astype(np.int8)


def born(words: Words) -> tuple[Traits, Condition]:
    """Machines as they are found: each its own, each in the middle of something.

    Args:
        words: uint64[CHANNELS, n]
    """
    chance = uniform(words)
    traits = Traits(
        speed_rpm=6000 + 4000 * chance[0],
        flow_lpm=6 + 4 * chance[1],
        supply_v=377 + 6 * chance[2],
        ambient_c=18 + 4 * chance[3],
    )
    state = np.searchsorted([0.1, 0.3, 0.45], chance[4], side="right").astype(np.int8)
    turning, cutting = _SPEED_SHARE[state], state == State.CUTTING
    condition = Condition(
        state=state,
        left_s=DWELL_S[state] * 1.5 * chance[5],
        coolant_s=np.full(state.shape, np.inf),
        temperature_c=traits.ambient_c + 15 * turning,
        speed_rpm=traits.speed_rpm * turning,
        flow_lpm=traits.flow_lpm * cutting,
        load=np.full(state.shape, _LOAD_MEAN),
        line_v=traits.supply_v.copy(),
        power_kw=_BASE_KW[state],
    )
    return traits, condition


def step(traits: Traits, before: Condition, words: Words, dt_s: float) -> Condition:
    """Machines one record later.

    Args:
        traits: of n machines.
        before: of the same machines.
        words: uint64[CHANNELS, n], chance.
        dt_s: time between the two records.
    """
    state, left_s, coolant_s = _next_state(before, uniform(words[:3]), dt_s)
    shake = bell(words[3:])
    cutting = state == State.CUTTING
    target_rpm = traits.speed_rpm * _SPEED_SHARE[state]
    speed_rpm = _approach(before.speed_rpm, target_rpm * (1 + 0.002 * shake[0]), dt_s, _SPEED_TAU_S)
    open_lpm = np.where(coolant_s > 0, traits.flow_lpm * (1 + 0.02 * shake[1]), 0.0)
    flow_lpm = _flow(traits, before, open_lpm, dt_s) * cutting
    load = np.clip(_wander(before.load, _LOAD_MEAN, _LOAD, shake[2], dt_s), 0.3, 1.0)
    friction_kw = _FRICTION_KW * (speed_rpm / _FRICTION_RPM) ** 2
    cut_kw = cutting * load * _TORQUE_NM * speed_rpm * (2 * np.pi / 60) / 1000
    driving_kw = (friction_kw + cut_kw / _EFFICIENCY) * (_SPEED_SHARE[state] > 0)
    power_kw = (_BASE_KW[state] + driving_kw) * (1 + 0.01 * shake[3])
    line_v = _wander(before.line_v, traits.supply_v, _VOLTAGE, shake[4], dt_s)
    heat_kw = friction_kw + _CUT_HEAT * cut_kw
    temperature_c = _temperature(traits, before.temperature_c, heat_kw, flow_lpm, dt_s)
    return Condition(state, left_s, coolant_s, temperature_c, speed_rpm, flow_lpm, load, line_v, power_kw)


def voltage(condition: Condition) -> Floats:
    """The voltage at the machine, in V: what the line has, less the dip under load."""
    return condition.line_v - _DIP_V_PER_KW * condition.power_kw


def _next_state(before: Condition, chance: Floats, dt_s: float) -> tuple[States, Floats, Floats]:
    state, left_s, coolant_s = before.state.copy(), before.left_s - dt_s, before.coolant_s - dt_s
    hot = (_TRIPS_TO[state] != state) & (before.temperature_c >= TRIP_C)
    waits = (state == State.FAULT) & (before.temperature_c > RESTART_C)
    waits |= (state == State.WARMING) & (before.temperature_c < WARM_C)
    over = (left_s <= 0) & ~waits
    leaving = np.flatnonzero(hot | over)
    if leaving.size:
        by_time = (chance[0, leaving, None] >= _WAYS[state[leaving]]).sum(axis=1)
        state[leaving] = np.where(hot[leaving], _TRIPS_TO[state[leaving]], by_time)
        left_s[leaving] = DWELL_S[state[leaving]] * (0.5 + chance[1, leaving])
        fails = (state[leaving] == State.CUTTING) & (chance[2, leaving] < COOLANT_FAILS)
        when = left_s[leaving] * chance[2, leaving] / COOLANT_FAILS
        coolant_s[leaving] = np.where(fails, when, np.inf)
    return state, left_s, coolant_s


def _flow(traits: Traits, before: Condition, target_lpm: Floats, dt_s: float) -> Floats:
    """Flow through an open valve; a trickle is there at once, and left when the supply fails."""
    flow_lpm = _approach(before.flow_lpm, target_lpm, dt_s, _FLOW_TAU_S)
    return np.maximum(flow_lpm, _TRICKLE * traits.flow_lpm)


def _temperature(traits: Traits, before_c: Floats, heat_kw: Floats, flow_lpm: Floats, dt_s: float) -> Floats:
    loss_kw_k = _AIR_KW_K + _COOLANT_KW_K * flow_lpm
    final_c = traits.ambient_c + heat_kw / loss_kw_k
    return final_c + (before_c - final_c) * np.exp(-dt_s * loss_kw_k / _CAPACITY_KJ_K)


def _approach(value: Floats, target: Floats, dt_s: float, tau_s: float) -> Floats:
    keeps = math.exp(-dt_s / tau_s)
    return target + (value - target) * keeps


def _wander(value: Floats, mean: Floats | float, wander: _Wander, shake: Floats, dt_s: float) -> Floats:
    keeps = math.exp(-dt_s / wander.tau_s)
    strays = wander.sigma * math.sqrt(1 - keeps**2)
    return mean + (value - mean) * keeps + strays * shake


def _ways() -> Floats:
    """The table as running sums, float64[5, 5]: how many are at or below a chance is the next state."""
    shares = np.array([[TRANSITIONS[here].get(there, 0.0) for there in State] for here in State])
    return shares.cumsum(axis=1).round(12)


_WAYS: Final = _ways()
_TRIPS_TO: Final = np.array([TRIPS.get(state, state) for state in State], dtype=np.int8)
