"""The server is killed at any moment: under load, while it replays, and with a client that sends again."""

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import processes
from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures, listed
from tests.faults.harness import MIB, Server
from tests.faults.oracle import (
    check_all,
    check_books,
    check_fresh,
    check_numbers,
    check_sender,
    check_waiting,
    reading,
    stored_numbers,
)
from tests.faults.sender import Sender, deliver, record
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

SMALL_JOURNAL = {"journal": {"max_bytes": 16 * MIB}}
"""Segments of 1 MiB: under load several a second are sealed, taken over and trimmed."""

READY_S = 5.0
"""A server that was killed takes data again after this time at the latest."""

_SMALL_BLOCKS = {"ingest": {"tick_ms": 1.0}}
_DIGITS = "{device},35.20000000000000001,{n},2.500000000000000001,3.7000000000000000001,380.000000000000001"
"""A record of 90 bytes. With small blocks of them a sink takes some 200 000 at a time, and more without."""

_PILE = 200_000
"""Records of each connection that wait to be replayed."""

_ENOUGH = 2 * _PILE
"""More than a sink mostly takes over before it is killed."""


def found_at(server: Server, cut_before: set[Path]) -> set[str]:
    """What the kill interrupted, as far as the files tell; `cut_before` was there before it."""
    segments = sorted(path for path in server.journal.glob("*.db") if path.stem.isdigit())
    logs = [Path(f"{path}-wal") for path in segments]
    hit = {
        "making a file ahead": any(server.journal.glob("spare.new*")),
        "writing a log ahead": any(server.journal.glob("spare-wal.new")),
        "between files": not (server.journal / "spare").exists(),
        "rotation": bool(logs) and not (logs[-1].exists() and logs[-1].stat().st_size),
        "sealed, not trimmed": len(segments) > 1,
        "trim": bool(cut_segments(server) - cut_before),
        "tables behind": _behind(server, segments),
    }
    return {name for name, was_hit in hit.items() if was_hit} or {"steady state"}


def cut_segments(server: Server) -> set[Path]:
    """Logs whose segment is gone."""
    return {log for log in server.journal.glob("[0-9]*-wal") if not log.with_suffix(".db").exists()}


def _behind(server: Server, segments: list[Path]) -> bool:
    cursor = _cursor(server)
    newest = 0
    for path in segments:
        with reading(path) as segment:
            newest = max(newest, segment.execute("SELECT max(id) FROM blocks").get or 0)
    return bool(newest > cursor)


def at_any_moment(server: Server) -> None:
    """Somewhere within the steady work."""
    del server
    time.sleep(_moments.uniform(0.2, 1.0))


def at_a_rotation(server: Server) -> None:
    """Right after another file was taken over."""
    newest = max(server.journal.glob("0*.db"))
    wait_until(lambda: max(server.journal.glob("0*.db")) > newest, "the journal rotates", rest=0)


def at_a_trim(server: Server) -> None:
    """Right after the first file of a segment was deleted."""
    oldest = min(server.journal.glob("0*.db"))
    wait_until(lambda: not oldest.exists(), "the journal is trimmed", rest=0)


_moments = random.Random(1)  # noqa: S311  # no secret; repeatable


@pytest.mark.tls
@pytest.mark.long(minutes=4)
def test_a_server_killed_under_load_loses_nothing_acknowledged(
    make_server: MakeServer, figures: Figures, *, long_form: bool
) -> None:
    """Killed at any moment, also while the journal rotates and is trimmed; ready again soon."""
    server = make_server(SMALL_JOURNAL)
    server.start()
    senders = [Sender(f"M{number}", server.ack_port) for number in range(2)]
    for sender in senders:
        sender.start()
    hit: Counter[str] = Counter()
    took = 0.0
    for kill in range(51 if long_form else 6):
        cut_before = cut_segments(server)
        (at_any_moment, at_a_rotation, at_a_trim)[kill % 3](server)
        server.kill()
        hit.update(found_at(server, cut_before))
        took = max(took, server.start())
        for sender in senders:
            sender.port = server.ack_port
            sender.wait_for_more()
    for sender in senders:
        sender.stop()
    check_fresh(server.ack_port, "fresh")
    server.wait_drained()
    figures.notes.append(f"the kills hit {listed(hit)}")  # a loop that always hits one place proves little
    assert len(hit) > 1
    assert len(stored_numbers(server.tables, "fresh")) == 10
    check_all(server.tables, senders)
    assert server.stop() == 0
    figures.within("ready again in", took, READY_S)


def test_what_a_kill_left_of_a_trimmed_segment_is_deleted(server: Server) -> None:
    """Deleting a segment takes several steps; the next start makes up for those that are missing."""
    server.start()
    assert server.stop() == 0
    leftover = server.journal / "00000000.db-wal"
    leftover.write_bytes(bytes(4096))
    server.start()
    server.wait_drained()
    assert server.stop() == 0
    assert not leftover.exists()


@pytest.mark.long(minutes=5)
def test_a_server_killed_while_it_replays_goes_on_where_the_tables_are(
    make_server: MakeServer, figures: Figures, *, long_form: bool
) -> None:
    """No cursor ever passes a block that is not in the tables, and no block comes twice.

    Only a kill that hit the replay counts: the sink had begun, and records still waited.
    """
    server = make_server(_SMALL_BLOCKS)
    wanted = 20 if long_form else 3
    piles = waiting = turn = 0
    moved: list[int] = []
    while len(moved) < wanted:
        assert turn < 2 * wanted, f"only {len(moved)} of {turn} kills were within the replay"
        if waiting < _ENOUGH:
            _pile_up(server, range(piles, piles + 4))
            piles += 4
        waiting = _killed_in_replay(server, turn)
        moved += [piles * _PILE - waiting] if waiting else []
        turn += 1
    figures.notes.append(f"{len(moved)} of {turn} kills in the replay, at {min(moved)} to {max(moved)} rows")
    server.start()
    server.wait_drained(120)
    assert len(set(moved)) > 1, "it never came further"
    for number in range(piles):
        check_numbers(f"R{number}", stored_numbers(server.tables, f"R{number}"), range(_PILE))
    check_books(server.tables)
    figures.within("ready again in", figures.ready_s or 0.0, READY_S)


def _pile_up(server: Server, numbers: range) -> None:
    """Leave records in the journal of which no table knows, and no server."""
    server.start()
    sink = server.sink_pid()
    processes.kill(sink, signal.SIGSTOP)
    for number in numbers:
        sent = b"".join(record(f"R{number}", n, _DIGITS) for n in range(_PILE))
        deliver(server.ack_port, sent, records=_PILE)
    server.kill()
    processes.kill(sink)


def _killed_in_replay(server: Server, turn: int) -> int:
    """Start it, and kill it at a moment of its replay; how many records wait then.

    By turns it still starts, or it takes data already, for which its sink is held; and the sink is killed
    too, or ends by itself after its batch.
    """
    before = _cursor(server)
    server.launch()
    if turn % 2:
        _hold_until_ready(server)
    (_within_its_first_batch, _within_a_commit, _within_a_later_batch)[turn % 3](server, before)
    left = server.kill()
    for sink in left if turn % 4 else []:
        processes.kill(sink)
    processes.wait_gone(left)
    check_books(server.tables)
    return check_waiting(server.journal, server.tables)


def _hold_until_ready(server: Server) -> None:
    """The sink does nothing until the server takes data."""
    sink = server.sink_pid()
    processes.kill(sink, signal.SIGSTOP)
    server.wait_started()
    processes.kill(sink, signal.SIGCONT)


def _within_its_first_batch(server: Server, _before: int) -> None:
    """While the sink reads, parses or inserts, and nothing is there yet; or a little later."""
    sink = server.sink_pid()
    journal = str(server.journal)
    wait_until(lambda: any(path.startswith(journal) for path in processes.files(sink)), "the sink reads")
    time.sleep(_moments.uniform(0.0, 0.5))


def _within_a_later_batch(server: Server, before: int) -> None:
    """While the sink does so with some rows behind it."""
    wait_until(lambda: _cursor(server) > before, "rows come")
    time.sleep(_moments.uniform(0.0, 0.3))


def _within_a_commit(server: Server, before: int) -> None:
    """When the sink begins to write what it has inserted."""
    _within_a_later_batch(server, before)
    log = Path(f"{server.tables}-wal")
    written = log.stat().st_mtime_ns
    deadline = time.monotonic() + 2.0
    while log.stat().st_mtime_ns == written and time.monotonic() < deadline:
        pass


def _cursor(server: Server) -> int:
    with reading(server.tables) as tables:
        return int(tables.execute("SELECT coalesce(max(block), 0) FROM cursors").get)


@pytest.mark.tls
def test_a_client_that_sends_again_makes_rows_only_of_what_it_sent(server: Server) -> None:
    """There are sent <= rows <= sent + sent again, and every extra row is of a record that was sent again."""
    server.start()
    sender = Sender("again", server.ack_port, resends=True)
    sender.start()
    for _ in range(4):
        sender.wait_for_more(5_000)
        server.kill()
        server.start()
        sender.port = server.ack_port
        sender.wait_for_more()
    sender.stop()
    server.wait_drained()
    rows = stored_numbers(server.tables, "again")
    assert sender.sent.total() > len(sender.sent), "nothing was sent again"
    check_numbers("again", rows.keys(), sender.sent.keys())
    check_sender(server.tables, sender)
    check_books(server.tables)
