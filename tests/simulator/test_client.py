"""Simulated machines over real sockets: what the truth says is what a server got."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser.reference import parse_record, parse_stream
from parser.settings import Rules
from parser.verdicts import Accepted, Empty, Refused
from simulator.client import Client
from simulator.errors import AcknowledgementError, UnreachableError
from simulator.options import SimulateOptions
from simulator.run import simulate
from simulator.truth import Truth
from tests.simulator.sink import DEADLINE_S, Sink, until

FAST = SimulateOptions(rate=200.0, devices=6, records=600, finish_timeout_s=DEADLINE_S)


def options(sink: Sink, **changes: object) -> SimulateOptions:
    """A short, fast run against this server, with these changes."""
    known = {name: getattr(FAST, name) for name in FAST.__struct_fields__}
    return SimulateOptions(**{**known, "port": sink.port, **changes})


def verdicts(sink: Sink) -> Counter[str]:
    """What the plain parser makes of all that came, stream by stream, clean ends as records."""
    found: Counter[str] = Counter()
    for stream in sink.streams:
        whole = (
            bytes(stream.data) if stream.ended == "clean" else bytes(stream.data).rpartition(b"#")[0] + b"#"
        )
        for verdict in parse_stream(whole, Rules()):
            found[{Accepted: "valid", Refused: "invalid", Empty: "empty"}[type(verdict)]] += 1
    return found


async def closed(sink: Sink) -> None:
    """Wait until the server has seen every end."""
    await until(lambda: not sink.open)


@pytest.mark.parametrize("scenario", ["normal", "split", "garbage", "storm"])
async def test_the_truth_is_what_arrives(scenario: str) -> None:
    """Each record once, with the verdict foretold, all of them acknowledged, all connections closed well."""
    async with Sink(acks=True) as sink:
        truth = await simulate(options(sink, scenario=scenario, ack=True, malformed=0.0, storm_every_s=0.05))
        await closed(sink)
    totals, found = truth.totals, verdicts(sink)
    assert (totals.valid, totals.invalid, totals.empty) == (found["valid"], found["invalid"], found["empty"])
    assert totals.sent == sink.received == totals.acknowledged == 600
    assert totals.connections == len(sink.streams)
    assert all(stream.ended == "clean" and not stream.tail for stream in sink.streams)
    assert {link.local_port for link in truth.links} >= {sink.streams[0].port}
    assert (totals.invalid > 0) == (scenario == "garbage")
    assert (totals.connections > 6) == (scenario == "storm")


async def test_records_do_not_depend_on_connections_and_packets() -> None:
    """Each device's records are the same bytes in the same order, however they travel."""
    seen = []
    for changes in ({}, {"connections": 1}, {"connections": 4, "burst": 7}, {"scenario": "split"}):
        async with Sink() as sink:
            await simulate(options(sink, malformed=0.1, **changes))
            await closed(sink)
        seen.append(sink.records_of())
    for other in seen[1:]:
        for device in (b"E%04d" % number for number in range(1, 7)):
            length = min(len(seen[0][device]), len(other[device]))
            assert length > 80
            assert seen[0][device][:length] == other[device][:length]


async def test_a_duration_gives_exactly_its_records() -> None:
    """Ten records of each machine in half a second at 20 Hz, be the machine that tests slow or fast."""
    async with Sink() as sink:
        truth = await simulate(options(sink, rate=20.0, duration_s=0.5, records=None))
        await closed(sink)
    assert truth.totals.sent == sink.received == 60 - truth.totals.slipped
    assert truth.elapsed_s >= 0.5


async def test_bursts_go_out_together() -> None:
    """Whole bursts come together, and what is left at the end."""
    async with Sink() as sink:
        await simulate(options(sink, connections=1, burst=50, records=220))
        await closed(sink)
    [stream] = sink.streams
    assert stream.data[: stream.packets[0]].count(b"#") % 50 == 0
    assert len(stream.packets) <= 5
    assert sink.received == 220


async def test_silent_connections_are_held_open() -> None:
    """Connections beyond the machines send nothing, and close with the others."""
    async with Sink() as sink:
        await simulate(options(sink, connections=30))
        await closed(sink)
    assert len(sink.streams) == 30
    assert sum(not stream.data for stream in sink.streams) == 24


async def test_one_byte_at_a_time() -> None:
    """A slow client's record comes in pieces, and comes whole."""
    async with Sink() as sink:
        truth = await simulate(options(sink, scenario="slow", byte_gap_s=0.002, devices=1, records=5))
        await closed(sink)
    assert truth.totals.valid == sink.received == 5
    assert len(sink.streams[0].packets) > 20


@pytest.mark.parametrize("acks", [False, True])
async def test_cut_off_ends(acks: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    """Even connections are reset within a record, when all else arrived; odd ones lack a last delimiter."""
    async with Sink(acks=acks) as sink:
        truth = await simulate(options(sink, scenario="cut", ack=acks))
        await closed(sink)
    ports = {stream.port: stream for stream in sink.streams}
    for link in truth.links:
        stream = ports[link.local_port]
        assert len(stream.records) == link.sent - 1
        complete = isinstance(parse_record(stream.tail, Rules()), Accepted)
        assert (link.ended, stream.ended, complete) == (
            ("finished", "clean", True) if link.line % 2 else ("reset", "reset", False)
        )
    totals = truth.totals
    assert (totals.sent, totals.valid, totals.invalid) == (606, 603, 3)
    assert (totals.kinds, totals.unterminated) == ({"cut_off": 3}, 3)
    assert totals.acknowledged == (603 if acks else 0)
    assert totals.unacknowledged == (0 if acks else 603)


async def test_a_server_that_stops_reading_holds_its_machines_up() -> None:
    """They stand still as soon as the sockets are full, and go on when the server reads again."""
    async with Sink() as sink:
        sink.pause(reads=False)
        client = Client(options(sink, rate=10_000.0, devices=20, connections=1, records=None, burst=20))
        await client.connect()
        pacing = asyncio.create_task(client.pace())
        history = [0] * 20
        while len(set(history[-20:])) > 1 or not history[-1]:
            history.append(client.statistics().sent)
            await asyncio.sleep(0.01)
        sink.pause(reads=True)
        await until(lambda: client.statistics().sent > history[-1] + 1000)
        pacing.cancel()
        await client.end()
        await client.give_up()
        await closed(sink)
    assert client.truth().totals.sent == sink.received
    assert not sink.streams[0].tail


async def test_a_slow_connection_slows_only_itself() -> None:
    """One is not read from; the machines of the others have all their turns."""
    async with Sink() as sink:
        client = Client(options(sink, rate=1_000.0, devices=200, connections=2, burst=50, records=None))
        await client.connect()
        await until(lambda: len(sink.streams) == 2)
        stuck = next(iter(sink.open))
        stuck.transport.pause_reading()
        pacing = asyncio.create_task(client.pace())
        other = next(stream for stream in sink.streams if stream is not stuck.stream)
        await until(lambda: not all(client._ready) and len(other.records) > 5_000)
        assert not stuck.stream.data
        stuck.transport.resume_reading()
        pacing.cancel()
        await client.end()
        await client.give_up()


def files(folder: Path) -> list[Path]:
    """What lies there."""
    return list(folder.iterdir())


async def test_nobody_listening_is_one_clear_error(tmp_path: Path) -> None:
    """It names host and port, and no truth is told about a run that never was."""
    async with Sink() as sink:
        port = sink.port
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port} cannot be reached"):
        await simulate(SimulateOptions(port=port, truth=tmp_path / "truth.json"))
    assert not files(tmp_path)


async def test_lost_connections_are_made_again_and_counted() -> None:
    """Records that were written to a broken connection are not sent again; all others arrive."""
    async with Sink() as sink:
        stop = asyncio.Event()
        running = asyncio.create_task(simulate(options(sink, records=None, numbered=True), stop=stop))
        for drops in (1, 2, 3):
            await sink.more(100)
            sink.drop()
            await until(partial(made_anew, sink, 6 * (drops + 1)))
        await sink.more(100)
        stop.set()
        truth = await running
        await closed(sink)
    assert truth.totals.connections == len(sink.streams) >= 24
    assert truth.totals.lost >= 18
    assert truth.totals.again == 0
    assert max(truth.sent_records().values()) == 1
    got = Counter(record for records in sink.records_of().values() for record in records)
    assert max(got.values()) == 1
    assert len(got) <= truth.totals.sent == truth.sent_records().total()


def made_anew(sink: Sink, connections: int) -> bool:
    """Whether so many connections were made so far."""
    return len(sink.streams) >= connections


async def test_what_was_not_acknowledged_is_sent_again_if_wanted() -> None:
    """Every record arrives at least once; every extra one is a record that the truth says was sent again."""
    async with Sink(acks=True) as sink:
        sink.acks_at_most = 40
        stop = asyncio.Event()
        chosen = options(sink, records=None, ack=True, resend=True, numbered=True, connections=3)
        running = asyncio.create_task(simulate(chosen, stop=stop))
        for _ in range(3):
            await sink.more(300)
            sink.drop()
        sink.acks_at_most = None
        await sink.more(300)
        stop.set()
        truth = await running
        await closed(sink)
    arrived, again = numbered_records(sink), truth.sent_again()
    assert truth.totals.again == again.total() > 0
    assert set(arrived) == set(truth.sent_records()) == truth.acknowledged_rows()
    assert all(1 <= count <= 1 + again[record] for record, count in arrived.items())
    assert truth.totals.sent <= arrived.total() <= truth.totals.sent + truth.totals.again


@pytest.mark.parametrize("answer", [b"ACK,999999#", b"hello", b"ACK,x#"])
async def test_an_acknowledgement_that_cannot_be_ends_in_an_error(answer: bytes, tmp_path: Path) -> None:
    """The run is over at once, and the truth is written all the same."""
    async with Sink() as sink:
        sink.says = answer * 10
        with pytest.raises(AcknowledgementError):
            await simulate(options(sink, ack=True, records=None, devices=1, truth=tmp_path / "truth.json"))
        await closed(sink)
    truth = Truth.read(tmp_path / "truth.json")
    assert (truth.totals.acknowledged, len(truth.links)) == (0, 1)


async def test_waiting_for_acknowledgements_has_a_deadline() -> None:
    """A server that never closes is let go of."""
    async with Sink(acks=True) as sink:
        sink.acks_at_most = 7
        sink.closes = False
        truth = await simulate(options(sink, ack=True, finish_timeout_s=0.3, devices=1, records=20))
    assert (truth.totals.acknowledged, truth.totals.unacknowledged) == (7, 13)
    assert [link.ended for link in truth.links] == ["aborted"]


async def test_cancelling_ends_in_good_order(tmp_path: Path) -> None:
    """What was begun is finished, and the truth is written."""
    async with Sink() as sink:
        path = tmp_path / "truth.json"
        running = asyncio.create_task(simulate(options(sink, records=None, truth=path)))
        await until(lambda: sink.received > 100)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await closed(sink)
    truth = Truth.read(path)
    assert truth.totals.sent == sink.received
    assert all(stream.ended == "clean" and not stream.tail for stream in sink.streams)


async def test_what_was_never_written_is_not_in_the_truth() -> None:
    """The server goes away for good before a packet is full; the count is that of records handed over."""
    async with Sink() as sink:
        client = Client(options(sink, records=None, burst=100_000, numbered=True, finish_timeout_s=0.2))
        await client.connect()
        pacing = asyncio.create_task(client.pace())
        await until(lambda: client.statistics().sent > 50)
    pacing.cancel()
    await client.end()
    await client.give_up()
    truth = client.truth()
    assert truth.totals.sent == truth.sent_records().total() == sink.received == 0


async def test_a_numbered_record_says_which_it_was() -> None:
    """Each row's speed is the running number of its device, from 1 without a gap."""
    async with Sink(acks=True) as sink:
        truth = await simulate(options(sink, numbered=True, ack=True))
        await closed(sink)
    for device, records in sink.records_of().items():
        numbers = [int(record.split(b",")[2]) for record in records]
        assert numbers == list(range(1, len(numbers) + 1))
        assert {(device.decode(), number) for number in numbers} <= truth.acknowledged_rows()
    assert len(truth.acknowledged_rows()) == 600


@given(
    st.lists(st.sampled_from(["drop", "pause", "hold acknowledgements", "recover"]), min_size=1, max_size=6),
    st.sampled_from(["normal", "split", "storm"]),
    st.sampled_from([1, 3, 40]),
)
@settings(max_examples=15)
def test_whatever_the_server_does_the_truth_holds(events: list[str], scenario: str, burst: int) -> None:
    """All records arrive; each as often as the truth says at most; all are acknowledged in the end."""
    asyncio.run(live_through(events, scenario, burst))


async def live_through(events: list[str], scenario: str, burst: int) -> None:
    """One run in which these things happen, and which ends well."""
    async with Sink(acks=True) as sink:
        stop = asyncio.Event()
        chosen = options(
            sink, scenario=scenario, burst=burst, records=None, ack=True, resend=True, numbered=True,
            storm_every_s=0.03,
        )  # fmt: skip
        running = asyncio.create_task(simulate(chosen, stop=stop))
        for event in [*events, "recover"]:
            before = len(sink.streams) if event == "drop" else 0
            happen(sink, event)
            await until(partial(made_anew, sink, before + 1))
            await asyncio.sleep(0.01)
        await sink.more(200)
        stop.set()
        truth = await running
        await closed(sink)
    arrived, again = numbered_records(sink), truth.sent_again()
    assert set(arrived) == set(truth.sent_records()) == truth.acknowledged_rows()
    assert all(1 <= count <= 1 + again[record] for record, count in arrived.items())


def happen(sink: Sink, event: str) -> None:
    """Let the server do this."""
    if event == "drop":
        sink.drop()
    elif event == "pause":
        sink.pause(reads=False)
    elif event == "hold acknowledgements":
        sink.acks_at_most = 5
    else:
        sink.acks_at_most = None
        sink.pause(reads=True)


def numbered_records(sink: Sink) -> Counter[tuple[str, int]]:
    """How often each (device, number) arrived whole."""
    arrived: Counter[tuple[str, int]] = Counter()
    for device, records in sink.records_of().items():
        arrived.update((device.decode(), int(record.split(b",")[2])) for record in records)
    return arrived
