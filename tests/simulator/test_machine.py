"""Machines behave like machines, and do it again the same way."""

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.fleet import Fleet, Readings
from simulator.machine import RESTART_C, TRANSITIONS, TRIP_C, TRIPS, WARM_C, State, classify

seeds = st.integers(-(2**70), 2**70)
intervals = st.sampled_from([0.001, 0.05, 0.1, 1.0, 10.0, 3600.0])


def life(devices: int, interval_s: float, seed: int, steps: int) -> list[Readings]:
    """All machines together, step by step."""
    fleet, everyone = Fleet(devices, interval_s, seed), np.arange(devices)
    return [fleet.advance(everyone) for _ in range(steps)]


def stack(readings: list[Readings], name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """One value of all machines: float64[steps, devices]."""
    return np.stack([getattr(reading.values, name) for reading in readings])


@given(seed=seeds, interval_s=intervals)
@settings(max_examples=40)
def test_states_follow_the_table(seed: int, interval_s: float) -> None:
    """From one record to the next a machine stays, or goes a way that the table knows."""
    states = np.stack([reading.state for reading in life(20, interval_s, seed, 100)])
    changes = {
        (State(int(a)), State(int(b)))
        for a, b in zip(states[:-1].flat, states[1:].flat, strict=True)
        if a != b
    }
    ways = {(here, there) for here, shares in TRANSITIONS.items() for there in shares}
    assert changes <= ways | set(TRIPS.items())


@given(seed=seeds, interval_s=intervals)
@settings(max_examples=40)
def test_a_record_tells_its_state(seed: int, interval_s: float) -> None:
    """What `classify` makes of the values as they are on the wire is the state the machine is in."""
    fleet, everyone = Fleet(20, interval_s, seed), np.arange(20)
    for _ in range(60):
        readings = fleet.advance(everyone)
        fields = [record.rstrip(b"#").split(b",") for record in fleet.encode(readings)]
        flow, power = (np.array([float(field[place]) for field in fields]) for place in (3, 4))
        assert classify(flow, power).tolist() == readings.state.tolist()


@given(seed=seeds, interval_s=intervals)
@settings(max_examples=40)
def test_values_stay_within_what_a_machine_can_do(seed: int, interval_s: float) -> None:
    """Whatever the seed and the time between two records."""
    readings = life(20, interval_s, seed, 60)
    bounds = {
        "spindle_temperature_c": (10, 130 if interval_s > 1 else TRIP_C + 15),
        "spindle_speed_rpm": (0, 10_100),
        "coolant_flow_lpm": (0, 11),
        "power_kw": (0, 16),
        "voltage_v": (350, 395),
    }
    for name, (low, high) in bounds.items():
        values = stack(readings, name)
        assert low <= values.min() <= values.max() <= high, name


@given(
    seed=seeds,
    devices=st.integers(1, 9),
    asked=st.lists(st.sets(st.integers(0, 8), min_size=1), min_size=1, max_size=25),
)
def test_a_device_does_not_depend_on_the_others(seed: int, devices: int, asked: list[set[int]]) -> None:
    """Its n-th record is the same, whoever else there is and whoever is asked first."""
    together, alone = Fleet(9, 0.1, seed), Fleet(devices, 0.1, seed)
    seen: dict[int, list[bytes]] = defaultdict(list)
    for some in asked:
        which = np.array(sorted(some, reverse=True))
        for device, record in zip(which, together.encode(together.advance(which)), strict=True):
            seen[int(device)].append(record)
    for device in range(devices):
        again = [alone.encode(alone.advance(np.array([device])))[0] for _ in seen[device]]
        assert again == seen[device]


def test_another_seed_makes_other_machines() -> None:
    """And none of the machines of a fleet is like another one."""
    fleets = [Fleet(100, 0.1, seed) for seed in (1, 2)]
    first, second = (fleet.encode(fleet.advance(np.arange(100))) for fleet in fleets)
    assert not set(first) & set(second)
    assert len({record.partition(b",")[2] for record in first}) == 100


def test_coolant_failure_leads_to_heat_and_a_stop() -> None:
    """Every fault comes out of a hot cut with only a trickle left, and is not left before it is cold."""
    readings = life(300, 0.5, 7, 1200)
    state = np.stack([reading.state for reading in readings])
    temperature, flow = stack(readings, "spindle_temperature_c"), stack(readings, "coolant_flow_lpm")
    stops = np.argwhere((state[1:] == State.FAULT) & (state[:-1] != State.FAULT))
    assert len(stops) > 30
    for step, device in stops:
        assert temperature[step, device] >= TRIP_C
        assert 0 < flow[step, device] < 1
        assert temperature[max(0, step - 40), device] < temperature[step, device]
    leaves = (state[:-1] == State.FAULT) & (state[1:] != State.FAULT)
    assert leaves.sum() > 10
    assert temperature[:-1][leaves].max() <= RESTART_C


def test_all_states_are_lived_through() -> None:
    """Ten minutes of a hundred machines show each state, and no cut before the spindle is warm."""
    readings = life(100, 1.0, 1, 600)
    state, temperature = (
        np.stack([reading.state for reading in readings]),
        stack(readings, "spindle_temperature_c"),
    )
    assert set(state.flat) == set(State)
    begins = (state[:-1] == State.WARMING) & (state[1:] == State.CUTTING)
    assert temperature[:-1][begins].min() >= WARM_C


def test_heat_has_inertia_and_power_follows_the_cut() -> None:
    """No jump of the temperature within a tenth of a second; voltage is lower where power is higher."""
    readings = life(100, 0.1, 3, 600)
    assert np.abs(np.diff(stack(readings, "spindle_temperature_c"), axis=0)).max() < 1.5
    state, power = np.stack([reading.state for reading in readings]), stack(readings, "power_kw")
    means = [power[state == one].mean() for one in (State.OFF, State.IDLE, State.WARMING, State.CUTTING)]
    assert means == sorted(means)
    voltage = stack(readings, "voltage_v")
    assert voltage[state == State.CUTTING].mean() < voltage[state == State.OFF].mean() - 2


@given(seed=seeds)
def test_numbers_change_nothing_but_the_speed(seed: int) -> None:
    """A numbered fleet says its running numbers, from 1, in place of the speed."""
    plain, numbered = Fleet(3, 0.1, seed), Fleet(3, 0.1, seed, numbered=True)
    for number in range(1, 20):
        one, other = (fleet.encode(fleet.advance(np.arange(3))) for fleet in (plain, numbered))
        for record, twin in zip(one, other, strict=True):
            fields, twins = record.split(b","), twin.split(b",")
            assert float(twins[2]) == number
            assert fields[:2] + fields[3:] == twins[:2] + twins[3:]
