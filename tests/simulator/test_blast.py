"""Sending prepared records: what the far end gets is what the result says, to the record."""

import socket
import threading

import pytest

from parser.reference import parse_record
from parser.settings import Rules
from parser.verdicts import Accepted, Empty
from simulator.blast import TICK_S, prepare, send
from simulator.errors import AcknowledgementError, UnreachableError
from simulator.garbage import Kind


class Sink:
    """A server on a thread of its own that keeps what it reads, and acknowledges if told to."""

    def __init__(self, *, connections: int = 1, ack: bool = False, answer: bytes | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ack, self._answer = ack, answer
        self._streams: list[bytes] = []
        self._threads = [threading.Thread(target=self._serve) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        stream = bytearray()
        with connection:
            if self._answer is not None:
                connection.sendall(self._answer)
            while data := connection.recv(65_536):
                stream += data
                if self._ack:
                    connection.sendall(b"ACK,%d#" % stream.count(b"#"))
        self._streams.append(bytes(stream))

    def streams(self) -> list[bytes]:
        """What each connection brought, once all have come and gone."""
        for thread in self._threads:
            thread.join()
        self._listener.close()
        return self._streams


def test_a_prepared_block_knows_the_verdict_of_each_record() -> None:
    """Valid, invalid and empty are what the plain parser finds, and all add up."""
    prepared = prepare(7, 3_000, seed=3, malformed=0.3)
    *records, tail = prepared.payload.split(b"#")
    verdicts = [parse_record(record, Rules()) for record in records]
    valid = sum(isinstance(verdict, Accepted) for verdict in verdicts)
    empty = sum(isinstance(verdict, Empty) for verdict in verdicts)
    assert tail == b""
    assert (prepared.records, prepared.valid, prepared.empty) == (3_000, valid, empty)
    assert prepared.invalid == 3_000 - valid - empty > 0


def test_a_block_may_be_of_one_kind_of_nonsense() -> None:
    """All of it, and the verdict is that kind's."""
    prepared = prepare(3, 200, malformed=1.0, kinds=[Kind.EMPTY])
    assert prepared.payload == b"#" * 200
    assert (prepared.valid, prepared.invalid, prepared.empty) == (0, 0, 200)


def test_the_same_seed_makes_the_same_block() -> None:
    """And another seed another one."""
    assert prepare(3, 100, seed=5, malformed=0.1) == prepare(3, 100, seed=5, malformed=0.1)
    assert prepare(3, 100, seed=5).payload != prepare(3, 100, seed=6).payload


@pytest.mark.parametrize("per_packet", [False, True])
@pytest.mark.parametrize("connections", [1, 3])
def test_exactly_the_records_asked_for_arrive(connections: int, per_packet: bool) -> None:  # noqa: FBT001  # a parameter of pytest's
    """More than the block holds, not a multiple of it, and none of them cut."""
    sink, prepared = Sink(connections=connections), prepare(4, 500)
    result = send(
        "127.0.0.1", sink.port, prepared, connections=connections, records=1_234, per_packet=per_packet
    )
    streams = sink.streams()
    assert result.sent == sum(stream.count(b"#") for stream in streams) == 1_234
    assert all(stream.endswith(b"#") for stream in streams)
    assert set(b"".join(streams).split(b"#")) <= set(prepared.payload.split(b"#"))


def test_a_run_by_time_ends_between_two_records() -> None:
    """Whatever the clock says, what was begun is finished and counted."""
    sink = Sink(connections=2)
    result = send("127.0.0.1", sink.port, prepare(4, 5_000), connections=2, duration_s=0.2)
    streams = sink.streams()
    assert result.sent == sum(stream.count(b"#") for stream in streams) > 0
    assert all(stream.endswith(b"#") for stream in streams)


def test_a_pace_is_never_exceeded() -> None:
    """At 1000 records/s, 100 records take 99 ms, less the tick by which what is due goes out early."""
    sink = Sink()
    result = send("127.0.0.1", sink.port, prepare(4, 100), records=100, rate=1_000)
    sink.streams()
    assert result.sent == 100
    assert result.seconds >= 0.099 - TICK_S


def test_the_last_acknowledgement_is_waited_for() -> None:
    """All records are acknowledged at the end, and each slice has a latency."""
    sink, prepared = Sink(connections=2, ack=True), prepare(4, 50)
    result = send("127.0.0.1", sink.port, prepared, connections=2, records=200, per_packet=True, ack=True)
    sink.streams()
    assert (result.sent, result.acknowledged) == (200, 200)
    assert len(result.ack_latencies) == 200
    assert min(result.ack_latencies) >= 0


@pytest.mark.parametrize("answer", [b"ACK,999999#", b"NAK,1#", b"ACK,-1#", b"x" * 100])
def test_an_acknowledgement_that_cannot_be_is_an_error(answer: bytes) -> None:
    """A server that acknowledges what was never sent is not believed."""
    sink = Sink(answer=answer)
    with pytest.raises(AcknowledgementError):
        send("127.0.0.1", sink.port, prepare(1, 10), records=10, ack=True)
    sink.streams()


def test_nobody_listening_is_one_clear_error() -> None:
    """It names the host and the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
        send("127.0.0.1", port, prepare(1, 1))
