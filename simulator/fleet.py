"""The fleet: all simulated machines, any of which can be asked for its next record.

What a device says in its n-th record follows from seed, interval and n alone. It makes no difference
which other devices there are, who is asked first, or over how many connections the records go.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import machine
from simulator.machine import Condition, Indices, States
from simulator.noise import Floats, draw, stream_keys
from simulator.wire import Values, device_name, encode

_BIRTH: Final = 1
_LIFE: Final = 2


class Readings(NamedTuple):
    """One record of each of n devices, before it becomes bytes."""

    device: Indices
    """Index of the device; its id is `device_name(index)`."""

    number: NDArray[np.int64]
    """The device's running number, from 1."""

    state: States
    values: Values[Floats]
    """float64[n] each, as measured, not rounded for the wire."""


class Fleet:
    """Machines E0001 and so on."""

    def __init__(self, devices: int, interval_s: float, seed: int, *, numbered: bool = False) -> None:
        """Make the machines as they are found.

        Args:
            devices: how many.
            interval_s: time between two records of one device.
            seed: the same seed makes the same machines.
            numbered: speed carries the record's running number instead, so that a stored row says which
                record it was; nothing else changes.
        """
        self.names = [device_name(index).encode() for index in range(devices)]
        self._interval_s = interval_s
        self._numbered = numbered
        birth = draw(stream_keys(seed, _BIRTH, devices), np.zeros(devices, np.int64), machine.CHANNELS)
        self._traits, self._condition = machine.born(birth)
        self._keys = stream_keys(seed, _LIFE, devices)
        self._number = np.zeros(devices, np.int64)

    def advance(self, which: Indices) -> Readings:
        """The next record of these devices.

        Args:
            which: intp[n], indices of devices, none of them twice.
        """
        number = self._number[which] + 1
        words = draw(self._keys[which], number, machine.CHANNELS)
        traits = self._traits.take(which)
        before = self._condition.take(which)
        after = machine.step(traits, before, words, self._interval_s)
        self._number[which] = number
        self._condition.put(which, after)
        return Readings(which, number, after.state, self._measure(after, number))

    def encode(self, readings: Readings) -> list[bytes]:
        """The records as they go over the wire, delimiters included."""
        names = self.names
        columns = (column.tolist() for column in readings.values)
        return encode((names[index] for index in readings.device.tolist()), zip(*columns, strict=True))

    def _measure(self, condition: Condition, number: NDArray[np.int64]) -> Values[Floats]:
        return Values(
            spindle_temperature_c=condition.temperature_c,
            spindle_speed_rpm=number.astype(np.float64) if self._numbered else condition.speed_rpm,
            coolant_flow_lpm=condition.flow_lpm,
            power_kw=condition.power_kw,
            voltage_v=machine.voltage(condition),
        )
