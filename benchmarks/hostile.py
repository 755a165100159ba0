"""`bench hostile`: a machine that sends 1 000 records a second, alone and beside two hundred strangers.

The server is the real one, `headrace serve`, with shares and deadlines as a plant would set them; once
without TLS and once with it, where machines have to prove who they are. Each run has a server of its own, on
which the machine is alone first. The attack goes on until each of its kinds has been counted by the server.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks.certificates import Plant
from benchmarks.nuisances import ALLOWED, Door
from benchmarks.report import Comparison, Figure, compare, middle, p99_of, percentiles
from benchmarks.running import peak_mib, resident_kib
from benchmarks.serving import log_of, metrics, next_address, page, running, write_config
from benchmarks.strangers import OF_ADDRESS, OF_IDENTITY, STOLEN, beset
from simulator.blast import BlastResult, prepare, send

_RATE: Final = 1_000.0
_CONNECTIONS: Final = 4
_DEVICES: Final = 20
_MACHINE: Final = "gateway"
_WARM_UP_S: Final = 1.0
_READY_S: Final = 60.0
_SEEN_S: Final = 150.0

_INGEST: Final[dict[str, object]] = {
    "ack_port": 0,
    "allow": [ALLOWED],
    "max_connections_per_address": OF_ADDRESS,
    "max_records_per_s": 500.0,
    "max_bytes_per_s": 25_000.0,
    "first_record_timeout_s": 1.0,
    "record_timeout_s": 1.0,
    "idle_timeout_s": 2.0,
}
_WITH_TLS: Final[dict[str, object]] = {
    "handshake_timeout_s": 1.0,
    "max_connections_per_identity": OF_IDENTITY,
    "bind_identity": True,
    "identities": {_MACHINE: [f"E{number:04d}" for number in range(1, _DEVICES + 1)]},
}
_COUNTED: Final = {
    "closed": 'headrace_connections_closed_total{why="',
    "refused": 'headrace_connections_refused_total{why="',
    "pages cut": 'headrace_http_connections_cut_total{why="',
    "rejected": 'headrace_records_rejected_total{reason="',
    "throttled": 'headrace_throttles_total{limit="',
}
_QUOTE: Final = '"'
_SIGNS: Final = frozenset(
    {
        "closed no_record",
        "closed slow_record",
        "closed idle_timeout",
        "closed reset",
        "refused not_allowed",
        "refused too_many_of_address",
        "pages cut no_http",
        "rejected oversize",
        "rejected fields",
        "throttled max_records_per_s",
        "throttled max_bytes_per_s",
    }
)
"""What has to have been counted in an attack."""

_SIGNS_OF_TLS: Final = _SIGNS | {
    "closed too_many_of_identity",
    "refused tls_failed",
    "refused tls_timeout",
    "rejected wrong_identity",
}


class Way(NamedTuple):
    """With TLS or without."""

    name: str
    plant: Plant | None = None
    foreign: Plant | None = None

    @property
    def signs(self) -> frozenset[str]:
        """What the server has to have counted."""
        return _SIGNS if self.plant is None else _SIGNS_OF_TLS

    def ingest(self) -> dict[str, object]:
        """Keys of `[ingest]`."""
        return _INGEST if self.plant is None else {**_INGEST, **_WITH_TLS, **self.plant.serve()}


class Found(NamedTuple):
    """What came of one way."""

    alone: Figure
    beset: Figure
    lost: int
    """Records sent and not acknowledged."""

    unseen: frozenset[str]
    """Signs that were not seen."""

    tracebacks: int
    grown_mib: float
    """From before an attack to its end, at most."""


def hostile(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """Without TLS and with it."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as name:
        plant = Plant.make(Path(name) / "plant", [_MACHINE, *STOLEN])
        foreign = Plant.make(Path(name) / "foreign", ["foreign"])
        found = [_way(way, runs, seconds) for way in (Way("plain"), Way("TLS", plant, foreign))]
    figures = [figure for each in found for figure in (each.alone, each.beset)]
    ratios = [
        compare(
            f"{each.alone.name.partition(',')[0]}: p99 beside strangers / alone",
            p99_of(each.beset) / p99_of(each.alone),
            at_most=2,
        )
        for each in found
    ]
    return figures, [
        *ratios,
        compare("records sent and not acknowledged", sum(each.lost for each in found), at_most=0),
        compare(
            "kinds of attack that the server did not count",
            sum(len(each.unseen) for each in found),
            at_most=0,
        ),
        compare("tracebacks in the servers' logs", sum(each.tracebacks for each in found), at_most=0),
        compare(
            "MiB that a server grew by in all attacks", max(each.grown_mib for each in found), at_most=128
        ),
    ]


def _way(way: Way, runs: int, seconds: float) -> Found:
    rounds = [_round(way, seconds) for _ in range(runs)]
    counted = sum((each.counted for each in rounds), Counter[str]())
    sent = [result for each in rounds for result in (each.alone, each.beset)]
    return Found(
        middle([_figure(f"{way.name}, alone", each.alone) for each in rounds], by=p99_of),
        msgspec.structs.replace(
            middle([_figure(f"{way.name}, beside strangers", each.beset) for each in rounds], by=p99_of),
            memory_mib=max(each.peak_mib for each in rounds),
            note=_told(counted),
        ),
        sum(result.sent - result.acknowledged for result in sent),
        way.signs - counted.keys(),
        sum(each.tracebacks for each in rounds),
        max(each.grown_mib for each in rounds),
    )


def _figure(name: str, heard: BlastResult) -> Figure:
    """From the moment a packet was handed over to the acknowledgement of its last record."""
    return Figure(
        name=name,
        rate=heard.acknowledged / heard.seconds,
        percentiles_ms=percentiles(heard.ack_latencies),
    )


def _told(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{sign} {count}" for sign, count in sorted(counted.items()))


class _Round(NamedTuple):
    alone: BlastResult
    beset: BlastResult
    counted: Counter[str]
    tracebacks: int
    grown_mib: float
    peak_mib: float


def _round(way: Way, seconds: float) -> _Round:
    """Alone, then under attack until all of that was seen; on a server of its own."""
    with _server(way) as server:
        server.machine(_WARM_UP_S)
        alone, before = server.machine(seconds), resident_kib(server.pid)
        with server.strangers():
            time.sleep(_WARM_UP_S)
            under_attack = server.machine(seconds)
            _wait(lambda: way.signs <= server.counted().keys(), _SEEN_S)
            grown = (resident_kib(server.pid) - before) / 1024
        counted, peak = server.counted(), peak_mib(server.pid)
        tracebacks = server.log.read_text().count("Traceback")
    return _Round(alone, under_attack, counted, tracebacks, grown, peak)


class _Server:
    """The server of one way, and what goes on at its doors."""

    def __init__(self, way: Way, ports: tuple[int, int, int], pid: int, log: Path) -> None:
        self.pid, self.log = pid, log
        self._way = way
        self._port, self._ack_port, self._pages = ports
        self._tls = None if way.plant is None else way.plant.client(_MACHINE)

    def machine(self, seconds: float) -> BlastResult:
        """What one machine hears that sends at a steady rate."""
        return send(
            "127.0.0.1",
            self._ack_port,
            prepare(_DEVICES, 1_000),
            connections=_CONNECTIONS,
            duration_s=seconds,
            rate=_RATE,
            ack=True,
            tls=self._tls,
        )

    def strangers(self) -> AbstractContextManager[None]:
        """All of them, for as long as the context lasts."""
        door = Door(self._port, self._ack_port, self._pages, self._way.plant, self._way.foreign)
        return beset(door)

    def counted(self) -> Counter[str]:
        """How often what was ended, refused, rejected and throttled."""
        return Counter(
            {
                f"{what} {name.removeprefix(start).split(_QUOTE)[0]}": int(value)
                for name, value in metrics(self._pages).items()
                for what, start in _COUNTED.items()
                if name.startswith(start) and value
            }
        )


@contextmanager
def _server(way: Way) -> Iterator[_Server]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as name:
        config = Path(name) / "bench.toml"
        write_config(config, {"ingest": way.ingest()})
        with running("serve", config) as process:
            port, ack_port = (next_address(process, of) for of in ("machines", "acknowledged"))
            pages = next_address(process, "pages")
            if not _wait(lambda: b'"state":"running"' in page(pages, "readyz"), _READY_S):
                raise RuntimeError("the server's sink did not start")
            yield _Server(way, (port, ack_port, pages), process.pid, log_of("serve", config))


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for this, but not longer; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
