"""An upgrade without a gap: the new server takes the ports before the old one drains."""

import threading
import time
from pathlib import Path

import pytest

from tests.faults import wire
from tests.faults.conftest import MakeServer
from tests.faults.oracle import check_all, reading
from tests.faults.sender import Sender

pytestmark = pytest.mark.fault


class Knocker(threading.Thread):
    """Connects again and again, and counts when nobody is there."""

    def __init__(self, port: int) -> None:
        super().__init__(name="knocker", daemon=True)
        self._port = port
        self._stopping = threading.Event()
        self.let_in = self.refused = 0

    def run(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            try:
                wire.current().connect(self._port).close()
                self.let_in += 1
            except OSError:
                self.refused += 1
            time.sleep(0.001)

    def stop(self) -> None:
        """Knock no more."""
        self._stopping.set()
        self.join(30)


def test_a_sender_goes_on_while_one_server_takes_over_from_another(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """No connect is refused at any moment, and everything acknowledged by either is stored."""
    old = make_server({"ingest": {"share_port": True}}, name="old")
    old.start()
    senders = [
        Sender(f"M{number}", old.ack_port, window=500, per_second=5_000, resends=True) for number in range(4)
    ]
    knocker = Knocker(old.port)
    for thread in (*senders, knocker):
        thread.start()
    new = make_server(
        {
            "ingest": {"port": old.port, "ack_port": old.ack_port, "share_port": True, "node_id": 1},
            "journal": {"path": str(tmp_path / "new")},
        },
        name="new",
    )
    new.start()
    for sender in senders:
        sender.wait_for_more(1_000)
    assert old.stop() == 0
    for sender in senders:
        sender.wait_for_more(1_000)
        sender.stop()
    knocker.stop()
    new.wait_drained()
    assert (knocker.refused, knocker.let_in > 0) == (0, True)
    with reading(new.tables) as tables:
        assert {node for (node,) in tables.execute("SELECT DISTINCT node FROM ledger")} == {0, 1}
    check_all(new.tables, senders)
    assert new.stop() == 0
