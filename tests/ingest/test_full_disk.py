"""A journal's disk that is full or slow: machines wait, memory doesn't grow, and it goes on by itself."""

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from ingest.assembler import Numbering
from ingest.journal import Journal, JournalState
from ingest.journal.keeper import Keeper
from ingest.journal.segment import Segment
from ingest.live import LivePublisher
from ingest.metrics import IngestMetrics
from ingest.server import IngestServer
from ingest.settings import MIB, IngestSettings, JournalSettings
from parser.block import Block
from storage.live import LiveFeed
from tests.faults.wire import PLAIN, Wire, encrypted
from tests.ingest.building import DEADLINE_S, NODE, RULES, Desk, chain, read_all, same, until
from tests.ingest.disks import Disk
from tests.support.certificates import Certificates

pytestmark = pytest.mark.fault

_DISK_BYTES = 64 * MIB
_RECORD = b"E0001,35.2,8000,2.5,3.7,380#"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 MB, in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk; run this test as root, for example in a container")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here; give the container CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)


def test_a_full_disk_pauses_the_journal_until_there_is_room(small_disk: Path) -> None:
    """The same commit is tried again; nothing is lost, doubled or acknowledged too early."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(_DISK_BYTES - 8 * MIB))
    blocks = chain(12, size=MIB)
    with Desk(small_disk / "journal", max_bytes=4096 * MIB) as desk:
        desk.submit(blocks)
        until(lambda: desk.journal.statistics.state is JournalState.FULL, "the full disk")
        assert "no room on the journal's disk" in desk.journal.statistics.reason
        assert len(desk.committed) < 12
        filler.unlink()
        until(lambda: len(desk.committed) == 12, "the commits")
        assert desk.journal.statistics.state is JournalState.WRITING
        assert desk.journal.statistics.reason == ""
        assert same(desk.committed, blocks)
        assert same(read_all(small_disk / "journal"), blocks)


def test_a_journal_begun_on_a_full_disk_leaves_no_empty_files(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it tries; the next start would take them for damaged ones."""
    folder, blocks = small_disk / "journal", chain(3)
    take_over, attempts = Keeper.take_over, Counter[str]()

    def counted(keeper: Keeper, first: Block) -> Segment:
        attempts["all"] += 1
        return take_over(keeper, first)

    monkeypatch.setattr(Keeper, "take_over", counted)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        folder.mkdir()
        (folder / "lock").write_bytes(msgspec.json.encode({"journal": "x", "node": NODE}))
        while file.write(bytes(MIB)):
            pass
    with Desk(folder) as desk:
        desk.submit(blocks)
        until(lambda: attempts["all"] > 3, "the attempts")
        assert len(desk.segments()) <= 1  # which is being tried
        filler.unlink()
        until(lambda: len(desk.committed) == 3, "the commits")
        assert desk.segments() == ["00000001.db"]
    with Desk(folder):
        assert not (folder / "damaged").exists()
        assert same(read_all(folder), blocks)


def test_a_server_can_end_on_a_full_disk(small_disk: Path) -> None:
    """It ends in bounded time, saying that not all is durable, and what was durable is there later."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(_DISK_BYTES - 8 * MIB))
    blocks = chain(12, size=MIB)
    desk = Desk(small_disk / "journal", max_bytes=4096 * MIB)
    for each in blocks:
        desk.submit([each])
    until(lambda: desk.journal.statistics.state is JournalState.FULL, "the full disk")
    assert not desk.close()
    assert same(desk.committed, blocks[: len(desk.committed)])
    filler.unlink()
    with Desk(small_disk / "journal", max_bytes=4096 * MIB):
        assert same(read_all(small_disk / "journal"), blocks[: len(desk.committed)])


@asynccontextmanager
async def serving(folder: Path, vfs: str | None = None, wire: Wire = PLAIN) -> AsyncIterator[IngestServer]:
    """A server with a journal and no sinks."""
    journal = Journal(JournalSettings(path=str(folder)), NODE, vfs=vfs)
    server = IngestServer(
        msgspec.convert({"node_id": NODE, "port": 0, **wire.settings}, IngestSettings),
        RULES,
        journal,
        Numbering(journal.tail.block + 1, journal.tail.next_record),
        sinks={},
        live=LivePublisher(LiveFeed()),
        heard=lambda _sightings: None,
        metrics=IngestMetrics(),
    )
    await server.start("0.0.0")
    try:
        yield server
    finally:
        await server.stop()


async def reached(condition: Callable[[], object], what: str) -> None:
    """Wait for something that the loop does."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.002)


async def _flood(server: IngestServer, records: int, wire: Wire = PLAIN) -> None:
    """A machine that sends as fast as it can, then closes."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.listener.ports[0], ssl=wire.context)
    for _ in range(records // 10_000):
        writer.write(_RECORD * 10_000)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def _records(folder: Path) -> int:
    return sum(block.records for block in read_all(folder) if isinstance(block, Block))


@pytest.fixture(params=["plain", "tls"])
def wire(request: pytest.FixtureRequest, certificates: Certificates) -> Wire:
    """How the machine is connected."""
    return PLAIN if request.param == "plain" else encrypted(certificates)


async def test_machines_wait_while_the_disk_is_full(small_disk: Path, wire: Wire) -> None:
    """Reading pauses, what is held is bounded, it goes on by itself, and every record arrives."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(_DISK_BYTES - 12 * MIB))
    async with serving(small_disk / "journal", wire=wire) as server:
        flood = asyncio.create_task(_flood(server, 1_200_000, wire))
        await reached(lambda: "journal_not_writing" in server.statistics.paused, "the pause")
        assert any("no room" in trouble for trouble in server.statistics.troubles)
        for _ in range(50):
            assert server.statistics.journal.queued_bytes < 24 * MIB
            await asyncio.sleep(0.01)
        assert not flood.done()
        filler.unlink()
        await asyncio.wait_for(flood, DEADLINE_S)
        await reached(lambda: not server.statistics.connections, "the end of the connection")
        await reached(server.listener.assembler.settled.is_set, "the last commit")
        assert not server.statistics.paused
        assert not server.statistics.troubles
    assert _records(small_disk / "journal") == 1_200_000


async def test_a_slow_sync_makes_machines_wait_and_nothing_grow(tmp_path: Path) -> None:
    """With 200 ms a sync, what is received and not yet durable stays within its bound."""
    with Disk() as disk:
        disk.sync_s = 0.2
        async with serving(tmp_path, disk.name) as server:
            flood = asyncio.create_task(_flood(server, 3_000_000))
            most, pauses = 0, 0
            while not flood.done():
                most = max(most, server.statistics.journal.queued_bytes)
                pauses += "commit_queue" in server.statistics.paused
                await asyncio.sleep(0.005)
            await flood
            await reached(lambda: not server.statistics.connections, "the end of the connection")
            await reached(server.listener.assembler.settled.is_set, "the last commit")
            assert pauses
            assert most < 24 * MIB
            assert disk.syncs > 2
        assert _records(tmp_path) == 3_000_000


async def test_a_failed_journal_acknowledges_nothing_and_the_server_stays_up(tmp_path: Path) -> None:
    """It is not ready, says why, and pauses all machines."""
    with Disk() as disk:
        async with serving(tmp_path, disk.name) as server:
            await reached(server.listener.assembler.settled.is_set, "the first commit")
            disk.fail_always("sync")
            reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.ports[0])
            writer.write(_RECORD)
            await reached(lambda: "journal_not_writing" in server.statistics.paused, "the pause")
            assert any("failed on purpose" in trouble for trouble in server.statistics.troubles)
            assert server.statistics.listening
            assert not server.listener.assembler.settled.is_set()
            writer.close()
            assert not await reader.read()
        assert not (await server.stop()).durable
