"""A bad network between server and Cassandra: whatever it loses, the rows come out exact."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Final

import msgspec
import pytest

from storage.settings import CassandraSettings
from tests.faults import processes
from tests.faults.cassandra_oracle import check_all, on_cassandra, stored_numbers
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.harness import MIB, Server
from tests.faults.proxy import Direction, Fate, Proxy, arrives
from tests.faults.sender import Sender
from tests.faults.waiting import wait_until

pytestmark = [pytest.mark.fault, pytest.mark.cassandra, pytest.mark.timeout(300)]

_STORED: Final = 'headrace_records_stored_total{sink="tables"}'
_REPEATED: Final = 'headrace_store_requests_total{outcome="repeated",sink="tables"}'
_MOVED: Final = b"[applied]"
"""Stands in the answer to a compare-and-set, and in no other."""

_RESULT: Final = 0x08
_WRITTEN: Final = b"\0\0\0\1"
"""How the answer to a write begins, behind its header."""

_chance = random.Random(1)  # noqa: S311  # no secret; repeatable


@contextmanager
def meeting(
    direction: Direction, fate: Callable[[bytes], Fate], unwanted: Fate, count: int
) -> Iterator[None]:
    """Let frames of this direction meet a fate, until so many met the unwanted one."""
    before = direction.met[unwanted]
    direction.fate = fate
    try:
        yield
        wait_until(lambda: direction.met[unwanted] >= before + count, f"{count} frames met {unwanted}", 90)
    finally:
        direction.fate = arrives


def some(unwanted: Fate) -> Callable[[bytes], Fate]:
    """Every tenth frame, by chance."""
    return lambda _frame: unwanted if _chance.random() < 0.1 else Fate.ARRIVES


def every_other(wanted: Callable[[bytes], bool]) -> Callable[[bytes], Fate]:
    """Every other of these frames is lost."""
    turns = cycle((Fate.IS_LOST, Fate.ARRIVES))
    return lambda frame: next(turns) if wanted(frame) else Fate.ARRIVES


def _is_of_write(answer: bytes) -> bool:
    return answer[4] == _RESULT and answer[9:13] == _WRITTEN


def answers_are_lost(proxy: Proxy) -> None:
    """What was asked is done, and nobody hears of it."""
    with meeting(proxy.answers, some(Fate.IS_LOST), Fate.IS_LOST, 1):
        pass


def rows_are_written_unheard(proxy: Proxy) -> None:
    """The same, to rows and books only: some of what was written together is confirmed."""
    with meeting(proxy.answers, every_other(_is_of_write), Fate.IS_LOST, 4):
        pass


def the_cursor_moves_unheard(proxy: Proxy) -> None:
    """The answer to the step that decides whether a block was written is lost."""
    with meeting(
        proxy.answers, lambda frame: Fate.IS_LOST if _MOVED in frame else Fate.ARRIVES, Fate.IS_LOST, 1
    ):
        pass


def the_cursor_is_cut_off(proxy: Proxy) -> None:
    """The same, and the connection is gone with it."""
    with meeting(
        proxy.answers, lambda frame: Fate.IS_CUT if _MOVED in frame else Fate.ARRIVES, Fate.IS_CUT, 2
    ):
        pass


def requests_are_lost(proxy: Proxy) -> None:
    """Nothing is done, and nobody hears of that either."""
    with meeting(proxy.requests, some(Fate.IS_LOST), Fate.IS_LOST, 1):
        pass


def answers_are_cut(proxy: Proxy) -> None:
    """Connections end in the middle of an answer."""
    with meeting(proxy.answers, some(Fate.IS_CUT), Fate.IS_CUT, 4):
        pass


def requests_are_cut(proxy: Proxy) -> None:
    """Connections end in the middle of a request."""
    with meeting(proxy.requests, some(Fate.IS_CUT), Fate.IS_CUT, 4):
        pass


def nothing_is_answered_and_all_is_cut(proxy: Proxy) -> None:
    """As when a firewall is restarted."""
    with meeting(proxy.answers, lambda _frame: Fate.IS_LOST, Fate.IS_LOST, 3):
        pass
    proxy.cut(refuse_s=3.0)


def all_is_slow(proxy: Proxy) -> None:
    """Every answer takes 200 ms more."""
    arrived = proxy.answers.met[Fate.ARRIVES]
    proxy.answers.delay_s = 0.2
    wait_until(lambda: proxy.answers.met[Fate.ARRIVES] > arrived + 50, "slow answers come", 90)
    proxy.answers.delay_s = 0.0


TROUBLES: Final[tuple[Callable[[Proxy], None], ...]] = (
    rows_are_written_unheard,
    answers_are_cut,
    the_cursor_is_cut_off,
    requests_are_cut,
    the_cursor_moves_unheard,
    nothing_is_answered_and_all_is_cut,
)
MORE: Final = (*TROUBLES, all_is_slow, requests_are_lost, answers_are_lost)


def wait_for_rows(server: Server, trouble: str) -> None:
    """Wait until more rows are written than now."""
    stored = server.metric(_STORED)
    wait_until(lambda: server.metric(_STORED) > stored, f"rows are written after {trouble}", 90)


@pytest.mark.long(minutes=8)
def test_whatever_the_network_loses_the_rows_are_exact(
    make_server: MakeServer, tables: CassandraSettings, figures: Figures, *, long_form: bool
) -> None:
    """Each trouble comes under load, in the long form six times and three more; every record is one row."""
    with Proxy(tables.contact_points[0], tables.port) as proxy:
        server = make_server(on_cassandra(msgspec.structs.replace(tables, port=proxy.port)))
        server.start()
        sender = Sender("M", server.ack_port, per_second=1_000)
        sender.start()
        for number, trouble in enumerate(MORE * 6 if long_form else TROUBLES):
            proxy.resets = number // len(MORE) % 2 == 0
            trouble(proxy)
            wait_for_rows(server, trouble.__name__)
            assert server.ready().ready, "machines notice nothing"
        sender.stop()
        server.wait_drained(120)
        figures.notes.append(f"answers {_met(proxy.answers)}; requests {_met(proxy.requests)}")
        figures.notes.append(f"{server.metric(_REPEATED):.0f} sent again")
        assert server.metric(_REPEATED) > 0
        assert stored_numbers(tables, "M") == sender.sent == Counter(sender.acknowledged)
        check_all(server, tables, [sender])


def _met(direction: Direction) -> dict[str, int]:
    """How many frames met which fate."""
    return {fate.name.lower(): count for fate, count in direction.met.items()}


@pytest.mark.long(minutes=4)
def test_a_slow_database_leaves_memory_flat(
    make_server: MakeServer, tables: CassandraSettings, *, long_form: bool
) -> None:
    """With 200 ms to every answer, for three minutes in the long form, nothing piles up in any process."""
    with Proxy(tables.contact_points[0], tables.port) as proxy:
        server = make_server(on_cassandra(msgspec.structs.replace(tables, port=proxy.port)))
        server.start()
        proxy.answers.delay_s = 0.2
        sender = Sender("M", server.ack_port, per_second=5_000)
        sender.start()
        sender.wait_for_more(25_000)
        used = [processes.resident_bytes(pid) for pid in (server.pid, server.sink_pid())]
        for _ in range(36 if long_form else 1):
            sender.wait_for_more(25_000)
            now = [processes.resident_bytes(pid) for pid in (server.pid, server.sink_pid())]
            assert all(after < before + 64 * MIB for after, before in zip(now, used, strict=True)), (
                used,
                now,
            )
        sender.stop()
        server.wait_drained(120)
        check_all(server, tables, [sender])
