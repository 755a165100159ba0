"""What a run of the simulator is to be like."""

import math
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from simulator.encryption import client_context

MAX_DEVICES: Final = 100_000
MAX_CONNECTIONS: Final = 20_000
USUAL_CONNECTIONS: Final = 64
GARBAGE_SHARE: Final = 0.1


class Scenario(StrEnum):
    """How the machines misbehave."""

    NORMAL = "normal"
    """They don't."""

    SPLIT = "split"
    """Packets are cut at random places."""

    GARBAGE = "garbage"
    """A share of the records is malformed, in every way known."""

    STORM = "storm"
    """All connections close and come back together, again and again."""

    SLOW = "slow"
    """Bytes come one at a time."""

    CUT = "cut"
    """At the end every other connection is reset within a record; the rest close cleanly, but their
    last record has no delimiter."""


class SimulateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `simulator.run.simulate`."""

    host: str = "127.0.0.1"
    """Where the server listens."""

    port: int = 9400
    """On which port; with `ack` the one of its acknowledging listener."""

    devices: int = 20
    """How many machines: E0001, E0002, ..."""

    rate: float = 10.0
    """Records per second of each machine, in Hz."""

    duration_s: float | None = None
    """Stop after so many seconds; None goes on until it is stopped."""

    records: int | None = None
    """Stop after so many records of all machines together; None goes on."""

    connections: int | None = None
    """TCP connections, over which the machines are dealt out in turn; those beyond the number of
    machines stay silent. None is one for each machine, up to `USUAL_CONNECTIONS`."""

    burst: int = 1
    """Records that a connection collects for one packet."""

    seed: int = 1
    """The same seed, devices and rate make the same records, whatever the connections."""

    scenario: str = Scenario.NORMAL
    """How the machines misbehave: the name of a `Scenario`."""

    malformed: float = 0.0
    """Share of malformed records, 0 to 1, in any scenario; in `garbage`, 0 means `GARBAGE_SHARE`."""

    storm_every_s: float = 1.0
    """Seconds between two reconnects of all, in the scenario `storm`."""

    byte_gap_s: float = 0.01
    """Seconds between two bytes of a connection, in the scenario `slow`."""

    ack: bool = False
    """The server acknowledges: count it, and wait for the last one at the end."""

    resend: bool = False
    """Send again, on the next connection, what the last one left unacknowledged; needs `ack`."""

    numbered: bool = False
    """Put each device's running number in the place of the speed, and list all records in the truth."""

    connect_timeout_s: float = 5.0
    """How long a connection may take to be made."""

    finish_timeout_s: float = 10.0
    """How long the end may take: sending what is left, the last acknowledgements, closing."""

    truth: Path | None = None
    """A JSON file for the truth about the run."""

    tls_ca: Path | None = None
    """A PEM file with the authorities of the server's certificate; with it all connections are TLS."""

    tls_cert: Path | None = None
    """A PEM file with the certificate that all connections show, and its key unless `tls_key` has it."""

    tls_key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no run.

        Raises:
            ValueError: the message begins with the option's name and says what would be right.
        """
        _within("port", self.port, 1, 65535)
        _within("devices", self.devices, 1, MAX_DEVICES)
        _within("rate", self.rate, 1e-6, 1e6)
        _within("duration_s", self.duration_s, 0, math.inf)
        _within("records", self.records, 0, math.inf)
        _within("connections", self.connections, 1, MAX_CONNECTIONS)
        _within("burst", self.burst, 1, 1_000_000)
        _within("malformed", self.malformed, 0, 1)
        _within("storm_every_s", self.storm_every_s, 0.01, math.inf)
        _within("byte_gap_s", self.byte_gap_s, 0, math.inf)
        if self.scenario not in list(Scenario):
            raise ValueError(f"scenario: must be one of {', '.join(Scenario)}, not {self.scenario}")
        if self.tls_ca is None and (self.tls_cert is not None or self.tls_key is not None):
            raise ValueError("tls_ca: is needed beside tls_cert and tls_key")
        if self.tls_ca is not None and self.ack and self.scenario == Scenario.CUT:
            raise ValueError("scenario: the last word of a cut connection can't be heard over TLS")
        if self.resend and not self.ack:
            raise ValueError("resend: needs ack, as it is for what was not acknowledged")

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How connections are encrypted, if they are.

        Raises:
            EncryptionError: a file can't be used.
        """
        return client_context(self.tls_ca, self.tls_cert, self.tls_key) if self.tls_ca is not None else None

    @property
    def lines(self) -> int:
        """How many connections are held open."""
        if self.connections is not None:
            return self.connections
        return min(self.devices, USUAL_CONNECTIONS)


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ValueError(f"{name}: must be from {low:g} to {high:g}, not {value:g}")
