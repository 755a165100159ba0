"""`headrace serve` where it can't start: one clear line that names what to change, and exit status 2."""

import asyncio
import os
import signal
import socket
import sqlite3
from pathlib import Path

import apsw
import pytest

from headrace.serve import stopping
from tests.faults.harness import Server
from tests.headrace.conftest import Call


def refused(server: Server, *words: str, options: tuple[str, ...] = ()) -> None:
    """It doesn't start, and its one line has all these words."""
    status, said = server.refused(*options)
    lines = [line for line in said.splitlines() if not line.startswith("{")]
    assert status == 2, said
    assert len(lines) == 1, said
    assert lines[0].startswith("headrace: ")
    assert "Traceback" not in said
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(("section", "key"), [("ingest", "port"), ("ingest", "ack_port"), ("http", "port")])
def test_a_port_in_use_is_named(server: Server, section: str, key: str) -> None:
    """Of whichever listener; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server.configure({section: {key: port}})
        refused(server, str(port), "in use")


def test_a_folder_that_cannot_be_written_is_named(server: Server) -> None:
    """For the journal and for the tables; /proc takes no files, not even root's."""
    server.configure({"journal": {"path": "/proc/headrace/journal"}})
    refused(server, "/proc/headrace/journal: the journal can't be made there")
    server.configure({"storage.sqlite": {"path": "/proc/headrace/tables.db"}})
    refused(server, "/proc/headrace/tables.db")


def test_a_journal_that_cannot_be_a_folder_is_named(server: Server, tmp_path: Path) -> None:
    """Something else stands in its place."""
    (tmp_path / "file").write_text("a file, not a folder")
    server.configure({"journal": {"path": str(tmp_path / "file" / "journal")}})
    refused(server, str(tmp_path / "file" / "journal"))


def test_tables_that_cannot_be_a_file_are_named(server: Server, tmp_path: Path) -> None:
    """A folder stands in their place."""
    server.configure({"storage.sqlite": {"path": str(tmp_path)}})
    refused(server, str(tmp_path))


def test_another_programs_database_is_never_touched(server: Server) -> None:
    """It is refused, and it is as it was."""
    with sqlite3.connect(server.tables) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = server.tables.read_bytes()
    refused(server, str(server.tables), "another program's database", "storage.sqlite.path")
    assert server.tables.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(server: Server) -> None:
    """And left as it was."""
    server.tables.write_bytes(b"dear diary, " * 1000)
    refused(server, str(server.tables))
    assert server.tables.read_bytes() == b"dear diary, " * 1000


def test_tables_of_another_version_are_refused(server: Server, call: Call) -> None:
    """Both versions are named, and what to do."""
    assert call("db", "init").returncode == 0
    tables = apsw.Connection(str(server.tables))
    tables.pragma("user_version", 99)
    tables.close()
    refused(server, "version 99", "knows version 1")


def test_a_journal_of_another_node_is_refused(server: Server) -> None:
    """Both node ids are named."""
    server.start()
    assert server.stop() == 0
    server.configure({"ingest": {"node_id": 5}})
    refused(server, "node 0", "node 5", "node_id")


def test_the_real_ports_are_printed(server: Server) -> None:
    """With port 0 the addresses are the only way to find the server."""
    server.start()
    for port in (server.port, server.ack_port):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert server.ready().ready
    assert server.stop() == 0


def test_an_ordinary_start_and_stop_logs_nothing_alarming(server: Server) -> None:
    """Warnings and errors are for what somebody has to look at; what is unwise here is so in tests only."""
    server.start()
    server.wait_drained()
    assert server.stop() == 0
    assert [line for line in server.said() if line["level"] != "info" and line["event"] != "unwise"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_start_that_waits_is_broken_off_in_order(number: signal.Signals) -> None:
    """Whatever it waits for, for however long; the second signal changes nothing."""
    ended = False
    with stopping() as stop:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(3_600)
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
            ended = True
    assert ended
    assert stop.broke_off


async def test_what_is_up_is_told_and_not_broken_off() -> None:
    with stopping() as stop:
        waiting = asyncio.create_task(stop.wait())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(waiting, 20)
    assert not stop.broke_off


async def test_another_cancellation_is_none_of_its_own() -> None:
    async def start() -> None:
        with stopping():
            await asyncio.sleep(3_600)

    task = asyncio.create_task(start())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
