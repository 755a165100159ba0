"""The tables can't take anything for a while: the journal holds it, and `/readyz` says why."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from tests.faults.conftest import MakeServer
from tests.faults.figures import Figures
from tests.faults.harness import MIB, Server
from tests.faults.oracle import check_all, check_books, check_numbers, locked, reading, stored_numbers
from tests.faults.sender import SILENCE_S, Sender, deliver, record
from tests.faults.waiting import wait_until
from tests.support.needing import need

pytestmark = pytest.mark.fault

_LOG = 'headrace_store_wal_bytes{sink="tables"}'
_VALUES = ("spindle_temperature_c", "spindle_speed_rpm", "coolant_flow_lpm", "power_kw", "voltage_v")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB of its own."""
    mount = shutil.which("mount")
    need(os.geteuid() == 0 and mount is not None, "only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run([str(mount), "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run([str(shutil.which("umount")), "--lazy", folder], check=True)


@pytest.mark.long(minutes=6)
def test_machines_notice_nothing_of_tables_that_are_locked(
    server: Server, figures: Figures, outage_s: float | None
) -> None:
    """Another program has them, for one minute or for ten in the long form, at 10 000 records/s."""
    server.start()
    sender = Sender("M", server.ack_port, per_second=10_000)
    sender.start()
    sender.wait_for_more(5_000)
    with locked(server.tables):
        until = time.monotonic() + (outage_s or 2.0)
        while time.monotonic() < until or server.ready().sinks[0].lag_blocks < 10:
            sender.wait_for_more(2_000)
            assert server.ready().ready, "machines notice nothing"
    server.wait_caught_up(max(10.0, (outage_s or 0.0) / 6))
    sender.stop()
    server.wait_drained()
    figures.within("silent for at most", sender.longest_silence_s, SILENCE_S)
    check_all(server.tables, [sender])


@pytest.mark.long(minutes=12)
def test_a_long_reader_neither_stops_ingest_nor_the_tables(server: Server, *, long_form: bool) -> None:
    """Another program holds a read transaction under load: its log grows, and shrinks after it.

    It lasts for 100 000 records, in the long form for ten minutes.
    """
    server.start()
    sender = Sender("M", server.ack_port)
    sender.start()
    sender.wait_for_more(2_000)
    log = Path(f"{server.tables}-wal")
    with reading(server.tables) as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM readings").get
        held = time.monotonic()
        while time.monotonic() < held + (600 if long_form else 0):
            sender.wait_for_more(10_000)
        sender.wait_for_more(100_000)
        assert server.ready().ready
        assert reader.execute("SELECT count(*) FROM readings").get == seen, "one moment, however long"
        wait_until(lambda: server.metric(_LOG) == log.stat().st_size > 4 * MIB, "the log's size is said")
        reader.execute("COMMIT")
    sender.wait_for_more(20_000)
    sender.stop()
    server.wait_drained()
    assert server.stop() == 0
    assert not log.exists() or log.stat().st_size == 0, "the log is taken over once nobody reads"
    check_all(server.tables, [sender])


def test_a_full_disk_of_the_tables_makes_the_sink_wait(make_server: MakeServer, small_disk: Path) -> None:
    """The journal's disk has room: ingest goes on, `/readyz` says what waits, and it drains with room."""
    server = make_server({"storage.sqlite": {"path": str(small_disk / "tables.db")}})
    server.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(24 * MIB))
    count = 0
    while server.ready().sinks[0].state != "waiting":
        assert count < 2_000_000, "the disk never filled"
        _send(server, count, 20_000)
        count += 20_000
    _send(server, count, 20_000)
    ready = server.ready()
    assert ready.ready, "machines notice nothing"
    assert "full" in str(ready.sinks[0].reason)
    ballast.unlink()
    server.wait_drained()
    check_numbers("M", stored_numbers(server.tables, "M").keys(), range(count + 20_000))
    check_books(server.tables)
    assert server.stop() == 0


def test_what_waits_is_read_with_the_settings_it_came_with(make_server: MakeServer) -> None:
    """Field order and limits change while a backlog waits: both kinds become the right rows."""
    server = make_server(_limits(10))
    server.start()
    lock = apsw.Connection(str(server.tables))
    lock.set_busy_timeout(10_000)
    lock.execute("BEGIN IMMEDIATE")
    deliver(server.ack_port, b"old,35.2,1,2.5,3.7,380#old,35.2,2,2.5,30,380#", records=2)
    server.kill()
    server.configure(_limits(100, order=("device_id", *reversed(_VALUES))))
    server.start()
    deliver(
        server.ack_port, b"new,380,3.7,2.5,1,35.2#new,380,30,2.5,2,35.2#new,380,300,2.5,3,35.2#", records=3
    )
    lock.execute("ROLLBACK")
    lock.close()
    server.wait_drained()
    with reading(server.tables) as tables:
        rows = tables.execute("SELECT * FROM readings ORDER BY seq").fetchall()
        rejects = tables.execute(
            "SELECT device_id, reason, field FROM rejected_records ORDER BY seq"
        ).fetchall()
    assert [(device, *values) for device, _, _, *values in rows] == [
        ("old", 35.2, 1.0, 2.5, 3.7, 380.0),
        ("new", 35.2, 1.0, 2.5, 3.7, 380.0),
        ("new", 35.2, 2.0, 2.5, 30.0, 380.0),
    ]
    assert rejects == [("old", "implausible", "power_kw"), ("new", "implausible", "power_kw")]
    check_books(server.tables)


def _limits(
    highest: float, *, order: tuple[str, ...] = ("device_id", *_VALUES)
) -> dict[str, dict[str, object]]:
    return {"record": {"fields": order}, "record.limits": {"power_kw": [0, highest]}}


def _send(server: Server, first: int, count: int) -> None:
    deliver(
        server.ack_port,
        b"".join(record("M", number) for number in range(first, first + count)),
        records=count,
    )
