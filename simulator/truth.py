"""The truth: what was sent, and what a reader of the tables should find.

Energy and times per state are kept so that they can be computed again from the rows of a device alone,
in the order of their times t, as far as every valid record became a row:

    energy, in kWh:      sum of (power[i] + power[i + 1]) / 2 * (t[i + 1] - t[i]) / 3600
    seconds per state:   t[i + 1] - t[i] counts for the state of row i, see `simulator.machine.classify`

both only over gaps shorter than `MAX_GAP_S`: of a longer silence nobody knows what the machine did.

Here power is what the machine had before it was rounded for the wire, the state is the one that the
machine was in, and t is when the record was handed to the socket. A record that got lost on its way, or
was sent again, is in `links`, so that nothing has to be guessed.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.fleet import Readings
from simulator.garbage import Kind
from simulator.machine import State
from simulator.wire import Verdict, device_name

MAX_GAP_S: Final = 10.0


class DeviceTruth(msgspec.Struct, frozen=True):
    """What one device did."""

    sent: int
    """Records handed to a socket, each counted once: valid + invalid + empty."""

    valid: int
    invalid: int
    empty: int
    kwh: float
    seconds: dict[str, float]
    """Seconds in each state, by its name."""


class SentRecord(msgspec.Struct, frozen=True, array_like=True):
    """One record on one TCP connection, in the order of sending."""

    device_id: str
    number: int
    verdict: str
    """valid, invalid or empty."""

    again: bool
    """It was sent on an earlier connection and not acknowledged there."""


class LinkTruth(msgspec.Struct, frozen=True):
    """One TCP connection."""

    line: int
    """Which of the simulator's connections it was for; one that breaks is followed by another."""

    local_port: int
    """The port that the server saw as its peer's."""

    sent: int
    """Records handed to this connection, those that were sent again included."""

    again: int
    acknowledged: int
    """So many of them, from the first on, are durable."""

    ended: str
    """finished (as planned), lost (by the server or the network), reset (by us), or aborted."""

    records: list[SentRecord]
    """Every one of them, where the run was numbered."""


class Totals(msgspec.Struct, frozen=True):
    """All devices together."""

    sent: int
    valid: int
    invalid: int
    empty: int
    kinds: dict[str, int]
    """The invalid and empty ones by what is wrong with them; `cut_off` was ended by a reset."""

    unterminated: int
    """The valid ones that a clean close ended, without a delimiter."""

    again: int
    """Records sent once more, on top of `sent`."""

    acknowledged: int
    slipped: int
    """Records never made, since their device could not send for too long."""

    connections: int
    """TCP connections made."""

    lost: int
    """TCP connections that ended otherwise than planned."""

    kwh: float

    @property
    def unacknowledged(self) -> int:
        """Records that went out, but for those cut off, and were not acknowledged where they went."""
        return self.sent + self.again - self.kinds.get(Kind.CUT_OFF, 0) - self.acknowledged


class Truth(msgspec.Struct, frozen=True):
    """All that is known about a run."""

    seed: int
    scenario: str
    started_at: str
    """UTC, ISO 8601."""

    elapsed_s: float
    totals: Totals
    devices: dict[str, DeviceTruth]
    links: list[LinkTruth]

    def write(self, path: Path) -> None:
        """Put it into a JSON file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """What `write` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def sent_records(self) -> Counter[tuple[str, int]]:
        """How often each (device, number) went out; of a numbered run."""
        return Counter((r.device_id, r.number) for link in self.links for r in link.records)

    def sent_again(self) -> Counter[tuple[str, int]]:
        """How often each (device, number) went out once more; of a numbered run."""
        return Counter((r.device_id, r.number) for link in self.links for r in link.records if r.again)

    def acknowledged_rows(self) -> set[tuple[str, int]]:
        """Each (device, number) that is valid and acknowledged: none may be missing; of a numbered run."""
        valid = Verdict.VALID.name.lower()
        return {
            (r.device_id, r.number)
            for link in self.links
            for r in link.records[: link.acknowledged]
            if r.verdict == valid
        }


class Tally:
    """Counts up what the devices do; vectorised, as every record passes here."""

    def __init__(self, devices: int) -> None:
        self._counts = np.zeros((len(Verdict), devices), np.int64)
        self._kwh = np.zeros(devices)
        self._seconds = np.zeros((len(State), devices))
        self._last_s = np.full(devices, np.nan)
        self._last_kw = np.zeros(devices)
        self._last_state = np.zeros(devices, np.int8)
        self._kinds: Counter[Kind] = Counter()
        self.unterminated = 0

    @property
    def sent(self) -> int:
        """Records so far."""
        return int(self._counts.sum())

    def add(self, readings: Readings, spoiled: Mapping[int, Kind], at_s: float) -> None:
        """Count one record of each of n devices.

        Args:
            readings: of n devices, none of them twice.
            spoiled: what is wrong with those at these places, where something is.
            at_s: when they are handed over.
        """
        verdicts = np.full(readings.device.shape, Verdict.VALID, np.int8)
        for place, kind in spoiled.items():
            verdicts[place] = kind.verdict
            self._kinds[kind] += 1
        self._counts[verdicts, readings.device] += 1
        self._integrate(readings, verdicts == Verdict.VALID, at_s)

    def take_back(self, device: int, kind: Kind | None) -> None:
        """A record was never handed to a socket after all."""
        self._counts[Verdict.VALID if kind is None else kind.verdict, device] -= 1
        if kind is not None:
            self._kinds[kind] -= 1

    def _integrate(self, readings: Readings, seen: NDArray[np.bool_], at_s: float) -> None:
        who, state, power_kw = readings.device[seen], readings.state[seen], readings.values.power_kw[seen]
        passed_s = np.nan_to_num(at_s - self._last_s[who])
        passed_s[passed_s >= MAX_GAP_S] = 0.0
        self._kwh[who] += (self._last_kw[who] + power_kw) / 2 * passed_s / 3600
        self._seconds[self._last_state[who], who] += passed_s
        self._last_s[who], self._last_kw[who], self._last_state[who] = at_s, power_kw, state

    def devices(self) -> dict[str, DeviceTruth]:
        """What each device did."""
        return {device_name(index): self._device(index) for index in range(self._kwh.size)}

    def _device(self, index: int) -> DeviceTruth:
        valid, invalid, empty = self._counts[:, index].tolist()
        return DeviceTruth(
            sent=valid + invalid + empty,
            valid=valid,
            invalid=invalid,
            empty=empty,
            kwh=float(self._kwh[index]),
            seconds={state.name.lower(): float(self._seconds[state, index]) for state in State},
        )

    def totals(self, links: list[LinkTruth], slipped: int) -> Totals:
        """All devices together, and what became of their connections."""
        valid, invalid, empty = (int(count) for count in self._counts.sum(axis=1))
        return Totals(
            sent=valid + invalid + empty,
            valid=valid,
            invalid=invalid,
            empty=empty,
            kinds={kind.value: count for kind, count in self._kinds.items() if count},
            unterminated=self.unterminated,
            again=sum(link.again for link in links),
            acknowledged=sum(link.acknowledged for link in links),
            slipped=slipped,
            connections=len(links),
            lost=sum(link.ended == "lost" for link in links),
            kwh=float(self._kwh.sum()),
        )
