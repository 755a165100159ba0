"""Machines come and go behind a gateway that is connected: SIGHUP takes its list of devices over."""

from contextlib import ExitStack, closing
from functools import partial
from ssl import SSLSocket

import apsw
import pytest

from tests.faults.harness import Server
from tests.faults.oracle import reading
from tests.faults.waiting import wait_until
from tests.headrace.test_tls import connect, send
from tests.headrace.test_workers import WORKERS, opened
from tests.support.certificates import Certificates

REJECTED = "headrace_records_rejected_total"


@pytest.fixture
def binding(server: Server, certificates: Certificates) -> Server:
    """A server that isn't started yet; gateway-1 is to send for E0001."""
    configure(server, certificates, "E0001")
    return server


def configure(server: Server, plant: Certificates, *devices: str, **changed: object) -> None:
    """Write what gateway-1 may send for, and other keys of `[ingest]`."""
    ingest = {
        "tls_cert": str(plant.server.certificate),
        "tls_key": str(plant.server.key),
        "tls_client_ca": str(plant.ca),
        "bind_identity": True,
        **changed,
    }
    server.configure({"ingest": ingest, "ingest.identities": {"gateway-1": devices}})


def reload(server: Server, event: str = "configuration_changed") -> dict[str, object]:
    """SIGHUP; what was answered, which has to be this event."""
    before = _said(server, event)
    server.reload()
    wait_until(lambda: len(_said(server, event)) > len(before), event)
    return _said(server, event)[-1]


def _said(server: Server, event: str) -> list[dict[str, object]]:
    return [line for line in server.said() if line["event"] == event]


def stored(server: Server) -> list[str]:
    """The devices of all rows, in the order in which they came."""
    server.wait_drained()
    with reading(server.tables) as tables:
        return [device for (device,) in tables.execute("SELECT device_id FROM readings ORDER BY seq")]


def test_machines_come_and_go_over_a_connection_that_stays(
    binding: Server, certificates: Certificates
) -> None:
    """The same record is refused before and stored after, and the other way round; new ones likewise."""
    binding.start()
    with connect(binding, certificates, "gateway-1") as gateway:
        send(gateway, b"E0002")
        assert stored(binding) == []
        configure(binding, certificates, "E0001", "E0002")
        assert reload(binding)["taken"] == ["[ingest] identities"]
        send(gateway, b"E0002", b"E0001")
        assert stored(binding) == ["E0002", "E0001"]
        configure(binding, certificates, "E0002")
        reload(binding)
        with connect(binding, certificates, "gateway-1") as second:
            for each in (gateway, second):
                send(each, b"E0001", b"E0002")
    assert stored(binding) == ["E0002", "E0001", "E0002", "E0002"]
    assert binding.metric(f'{REJECTED}{{reason="wrong_identity",sink="tables"}}') == 3
    assert binding.metric("headrace_connections_opened_total") == 2
    assert binding.stop() == 0


def test_what_waits_is_judged_by_the_list_that_it_came_with(
    binding: Server, certificates: Certificates
) -> None:
    """It is parsed when the tables can be written again, long after the list was changed."""
    binding.start()
    with connect(binding, certificates, "gateway-1") as gateway:
        with closing(apsw.Connection(str(binding.tables))) as lock:
            lock.set_busy_timeout(10_000)
            lock.execute("BEGIN IMMEDIATE")
            send(gateway, b"E0001", b"E0002")
            configure(binding, certificates, "E0002")
            reload(binding)
            send(gateway, b"E0001", b"E0002")
        assert stored(binding) == ["E0001", "E0002"]
    assert binding.metric(f'{REJECTED}{{reason="wrong_identity",sink="tables"}}') == 2
    assert binding.stop() == 0


def test_a_refused_file_leaves_every_list_as_it_was(binding: Server, certificates: Certificates) -> None:
    """Whether the mistake is in a list or elsewhere."""
    binding.start()
    with connect(binding, certificates, "gateway-1") as gateway:
        configure(binding, certificates, "E0002", "")
        assert "is no device" in str(reload(binding, "configuration_refused")["reason"])
        configure(binding, certificates, "E0002", max_connections=0)
        reload(binding, "configuration_refused")
        send(gateway, b"E0001", b"E0002")
        assert stored(binding) == ["E0001"]
    assert binding.stop() == 0


def test_every_worker_takes_the_lists_over(binding: Server, certificates: Certificates) -> None:
    """For who is connected to it already."""
    binding.start(*WORKERS)
    with ExitStack() as stack:
        gateways: list[SSLSocket] = []
        while not all(opened(binding)):
            gateways.append(stack.enter_context(connect(binding, certificates, "gateway-1")))
            send(gateways[-1], b"E0001", b"E0002")
        assert set(stored(binding)) == {"E0001"}
        assert binding.total(REJECTED) == len(gateways)
        configure(binding, certificates, "E0001", "E0002")
        reload(binding)
        wait_until(partial(_all_may_send, binding, gateways), "both workers take it")
        assert binding.total("headrace_connections_opened_total") == len(gateways)
    assert binding.stop() == 0


def _all_may_send(server: Server, gateways: list[SSLSocket]) -> bool:
    """Whether nothing of E0002 is refused, over whichever connection it comes."""
    before = server.total(REJECTED)
    for gateway in gateways:
        send(gateway, b"E0002")
    server.wait_drained()
    return server.total(REJECTED) == before
