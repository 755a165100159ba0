"""`bench orders`: customers, the whole server with gateway and telemetry on one loop, and the supplier's MES.

All of them are the real commands in processes of their own, on the embedded database, reached over loopback.
"""

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.customers import Heard, Load, order
from benchmarks.report import Comparison, Figure, compare, middle, p99_of, percentiles
from benchmarks.running import LAST_CORE, cpu_seconds, peak_mib, pinned, sending
from benchmarks.serving import COMMAND, metrics, next_address, next_line, page, running, write_config
from headrace.mes import TOKEN
from simulator.blast import prepare

_RATE: Final = 50.0
_RECORDS: Final = 100_000
_CUSTOMERS: Final = 16
_CROWD: Final = 480
"""More than the gateway lets wait, and not more than the connections that the server takes."""

_OFFERED: Final = 2_000.0
_REGULARS: Final = 64
"""Few enough that the gateway refuses none of them."""

_WARM_UP_S: Final = 1.0
_READY_S: Final = 60.0
_STORED: Final = 'headrace_records_stored_total{sink="tables"}'


class Site:
    """A running server, with a customer's token and its supplier."""

    def __init__(self, process: "subprocess.Popen[str]", token: str) -> None:
        """Wait until it has told its addresses and its sink runs."""
        self.pid = process.pid
        self.token = token
        self.machines = next_address(process, "machines")
        self.pages = next_address(process, "pages")
        deadline = time.monotonic() + _READY_S
        while b'"state":"running"' not in page(self.pages, "readyz"):
            if time.monotonic() > deadline:
                raise RuntimeError("the server's sink did not start")
            time.sleep(0.05)

    def load(self, seconds: float, connections: int, rate: float | None) -> Load:
        """Customers of this one."""
        return Load(port=self.pages, token=self.token, connections=connections, seconds=seconds, rate=rate)

    def stored(self) -> float:
        """Records in the tables since the start."""
        return metrics(self.pages).get(_STORED, 0.0)


def orders(runs: int, seconds: float) -> tuple[list[Figure], list[Comparison]]:
    """Forwarded orders alone and beside telemetry, and many more than the gateway can forward."""
    steady = [_steady(seconds) for _ in range(runs)]
    alone, beside = (middle([run[place] for run in steady], by=p99_of) for place in (0, 1))
    without, telemetry = (middle([run[place] for run in steady]) for place in (2, 3))
    sustained = middle([_sustained(seconds) for _ in range(runs)])
    floods = [_flooded(seconds) for _ in range(runs)]
    placed, refused = middle([run[0] for run in floods]), middle([run[1] for run in floods])
    others = sum(run[2] for run in floods)
    return [alone, beside, without, telemetry, sustained, placed, refused], [
        compare("p99 of a forwarded order at 50/s, ms", p99_of(alone), at_most=25),
        compare("the same beside 100 000 records/s / without", p99_of(beside) / p99_of(alone), at_most=3),
        compare("telemetry beside orders / without", telemetry.rate / without.rate, at_least=0.95),
        compare("orders/s sustained without a 503, the server on one core", sustained.rate, at_least=500),
        compare("placed when flooded / sustained", placed.rate / sustained.rate),
        compare("answers to the flood that were neither 200 nor 503", others, at_most=0),
    ]


def _steady(seconds: float) -> tuple[Figure, Figure, Figure, Figure]:
    """Orders with telemetry idle; orders beside it; telemetry without orders, and beside them."""
    prepared = prepare(100, _RECORDS)
    with site(core=None) as server:
        order(server.load(_WARM_UP_S, _CUSTOMERS, _RATE))
        steady = server.load(seconds, _CUSTOMERS, _RATE)
        idle = _orders_figure("orders at 50/s", steady, server)
        with sending(server.machines, prepared, _RECORDS):
            time.sleep(_WARM_UP_S)
            without = _telemetry_rate(server, lambda: time.sleep(seconds))
            found: list[Figure] = []
            beside = _telemetry_rate(
                server, lambda: found.append(_orders_figure("beside telemetry", steady, server))
            )
    return (
        idle,
        found[0],
        Figure(name="telemetry without orders", rate=without),
        Figure(name="telemetry beside 50 orders/s", rate=beside),
    )


def _sustained(seconds: float) -> Figure:
    """What customers get placed who order again as soon as they were answered; the server on one core."""
    with site(core=0) as server, pinned(LAST_CORE):
        order(server.load(_WARM_UP_S, _REGULARS, None))
        return _orders_figure(
            f"sustained, {_REGULARS} customers", server.load(seconds, _REGULARS, None), server
        )


def _flooded(seconds: float) -> tuple[Figure, Figure, int]:
    """What is placed, what is refused, and how many customers heard neither; the server on one core."""
    with site(core=0) as server, pinned(LAST_CORE):
        order(server.load(_WARM_UP_S, _CUSTOMERS, None))
        cpu = cpu_seconds(server.pid)
        heard = order(server.load(seconds, _CROWD, _OFFERED))
        used, peak = cpu_seconds(server.pid) - cpu, peak_mib(server.pid)
    placed = msgspec.structs.replace(
        _figure("placed when flooded", heard, 200),
        cpu_s_per_million=1e6 * used / max(1, heard.count(200)),
        memory_mib=peak,
        note=f"{_OFFERED:.0f}/s offered, {heard.others} heard neither",
    )
    return placed, _figure("refused meanwhile (503)", heard, 503), heard.others


def _orders_figure(name: str, load: Load, server: Site) -> Figure:
    """All of these orders have to be placed."""
    cpu = cpu_seconds(server.pid)
    heard = order(load)
    used = cpu_seconds(server.pid) - cpu
    placed = heard.count(200)
    if placed != sum(map(len, heard.latencies.values())):
        raise RuntimeError(
            f"{name}: of {placed} placed orders some were answered otherwise: {_counts(heard)}"
        )
    return msgspec.structs.replace(_figure(name, heard, 200), cpu_s_per_million=1e6 * used / placed)


def _figure(name: str, heard: Heard, status: int) -> Figure:
    return Figure(
        name=name,
        rate=heard.count(status) / heard.seconds,
        unit="orders/s",
        percentiles_ms=percentiles(heard.latencies.get(status, [])),
    )


def _counts(heard: Heard) -> dict[int, int]:
    return {status: len(found) for status, found in sorted(heard.latencies.items())}


def _telemetry_rate(server: Site, meanwhile: Callable[[], object]) -> float:
    """Records that got into the tables, per second, while this went on."""
    stored, begun = server.stored(), time.perf_counter()
    meanwhile()
    return (server.stored() - stored) / (time.perf_counter() - begun)


@contextmanager
def site(*, core: int | None) -> Iterator[Site]:
    """A server and its supplier; with a core the server has that one alone, and the supplier the last."""
    environment = {**os.environ, TOKEN: secrets.token_hex(16)}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=Path.cwd()) as name, ExitStack() as stack:
        config = Path(name) / "bench.toml"
        write_config(config, {})
        with pinned(None if core is None else LAST_CORE):
            supplier = stack.enter_context(running("mes", config, environment))
        url = next_line(supplier).removeprefix("mes: ")
        write_config(config, {"orders": {"mes_url": url}})
        token = _customer(config)
        with pinned(core):
            server = stack.enter_context(running("serve", config, environment))
        yield Site(server, token)


def _customer(config: Path) -> str:
    """The token of a customer who is new."""
    for words in (
        ("user", "add", "plant", "--role", "customer", "--no-password"),
        ("token", "create", "plant", "--label", "bench", "--days", "1"),
    ):
        called = [COMMAND, *words, "--config", config]
        done = subprocess.run(called, capture_output=True, text=True, check=True)
    return done.stdout.strip()
