"""TLS from the configuration to the tables: who sent what, and what was not theirs to send."""

import json
import socket
import ssl
import time
from pathlib import Path
from urllib.request import urlopen

import apsw
import pytest

from tests.faults.harness import Server
from tests.faults.waiting import wait_until
from tests.headrace.conftest import Call
from tests.support.certificates import Certificates

RECORD = b"%s,35.2,8000,2.5,3.7,380#"


@pytest.fixture
def secured(server: Server, certificates: Certificates) -> Server:
    """A running server that binds identities."""
    server.configure(
        {
            "ingest": {
                "port": 0,
                "ack_port": 0,
                "tls_cert": str(certificates.server.certificate),
                "tls_key": str(certificates.server.key),
                "tls_client_ca": str(certificates.ca),
                "bind_identity": True,
            }
        }
    )
    server.start()
    return server


def connect(server: Server, plant: Certificates, device: str) -> ssl.SSLSocket:
    """A machine on the acknowledging port."""
    context = ssl.create_default_context(cafile=str(plant.ca))
    context.load_cert_chain(plant.devices[device].certificate, plant.devices[device].key)
    sock = socket.create_connection(("127.0.0.1", server.ack_port), 20)
    return context.wrap_socket(sock, server_hostname="localhost")


def send(machine: ssl.SSLSocket, *devices: bytes) -> None:
    """Records of these devices; returns when they are durable."""
    machine.sendall(b"".join(RECORD % device for device in devices))
    assert machine.recv(100).startswith(b"ACK,")


def rows(server: Server, path: str) -> list[dict[str, object]]:
    """What the API shows in a list of this name."""
    with urlopen(f"{server.url}/api/v1/{path}", timeout=10) as answer:  # noqa: S310  # our own address
        found: list[dict[str, object]] = json.load(answer)[path]
    return found


def test_a_machine_is_known_and_sends_for_itself(
    secured: Server, certificates: Certificates, call: Call
) -> None:
    """Its identity is with its connection; another's record is a reject that no replay makes good."""
    with connect(secured, certificates, "E0001") as machine:
        send(machine, b"E0001", b"E0002", b"E0001")
        machine.unwrap()
    secured.wait_drained()
    days = (secured.metric("headrace_tls_certificate_ends_seconds") - time.time()) / 86_400
    assert 28 < days <= 30
    (connection,) = rows(secured, "connections")
    assert (connection["identity"], connection["stored"], connection["rejected"]) == ("E0001", 2, 1)
    assert secured.stop() == 0
    assert call("quarantine", "replay").stdout == "nothing to judge\n"
    with_rejects = "SELECT reason, field, device_id, raw FROM rejected_records"
    assert apsw.Connection(str(secured.tables)).execute(with_rejects).fetchall() == [
        ("wrong_identity", "device_id", "E0002", RECORD[:-1] % b"E0002")
    ]


def test_two_that_send_for_one_machine_are_flagged(secured: Server, certificates: Certificates) -> None:
    """Nothing of theirs is lost."""
    with connect(secured, certificates, "E0001") as first, connect(secured, certificates, "E0001") as second:
        for machine in (first, second, first):
            send(machine, b"E0001")
        secured.wait_drained()
        wait_until(lambda: rows(secured, "devices")[0]["claimed_twice"] is True, "the flag", 20)
    assert secured.metric("headrace_devices_claimed_twice_total") == 1
    assert secured.metric('headrace_records_stored_total{sink="tables"}') == 3


def test_strangers_leave_no_trace_but_a_count(secured: Server, certificates: Certificates) -> None:
    """No traceback, no row; and who belongs here is not held up."""
    for word in (b"", b"GET / HTTP/1.1\r\n\r\n", RECORD % b"E0001", b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", secured.ack_port), 20) as stranger:
            stranger.sendall(word)
    with connect(secured, certificates, "E0001") as machine:
        send(machine, b"E0001")
    failed = 'headrace_connections_refused_total{why="tls_failed"}'
    wait_until(lambda: secured.metric(failed) == 4, "all refusals", 20)
    secured.wait_drained()
    assert len(rows(secured, "connections")) == 1
    assert secured.stop() == 0
    assert "Traceback" not in Path(secured.log).read_text()


def test_a_server_with_a_key_that_does_not_fit_says_so(server: Server, certificates: Certificates) -> None:
    """In one line, with exit status 2."""
    server.configure(
        {
            "ingest": {
                "port": 0,
                "tls_cert": str(certificates.server.certificate),
                "tls_key": str(certificates.stranger.key),
            }
        }
    )
    status, said = server.refused()
    assert status == 2
    assert "[ingest] tls_key:" in said
    assert "Traceback" not in said
