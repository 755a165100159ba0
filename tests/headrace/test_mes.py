"""`headrace mes`: the supplier's service as a process of its own."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from headrace.mes import TOKEN, read_token, run_mes
from mes.settings import MesSettings
from tests.faults.supplier import SECRET, Mes
from tests.faults.waiting import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = {
    "user_id": 1,
    "base": "Base 40mm",
    "amount": 40,
    "drilling": "3 second Drilling",
    "cleaning": "Without",
    "pressing": "Without",
    "inspection": "Complete",
}


@pytest.fixture
def mes(tmp_path: Path) -> Iterator[Mes]:
    """A service that is not yet started, and that is gone after the test."""
    made = Mes(tmp_path)
    made.configure()
    yield made
    made.clean_up()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_and_ends_in_order(mes: Mes, number: signal.Signals) -> None:
    """Exit status 0, and a log of JSON lines with the caller's trace and without the token."""
    mes.start()
    headers = {"Idempotency-Key": "key", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    order = mes.ask("/api/v1/orders", GIVEN, **headers)
    assert (order["order_id"], order["price"], order["place"]) == (1, 600, 1)
    assert mes.end(number) == 0
    said = [json.loads(line) for line in mes.log.read_text().splitlines()]
    assert [line["event"] for line in said] == ["order_received", "order_queued"]
    assert {line["trace_id"] for line in said} == {TRACE}
    assert SECRET not in mes.log.read_text()


def test_what_it_has_answered_is_there_after_a_kill(mes: Mes) -> None:
    """The same request is the same order, and the next one goes on counting."""
    mes.start()
    first = mes.ask("/api/v1/orders", GIVEN, **{"Idempotency-Key": "key"})
    mes.end(signal.SIGKILL)
    mes.start()
    assert mes.ask("/api/v1/orders", GIVEN, **{"Idempotency-Key": "key"}) == first
    assert mes.ask("/api/v1/orders", GIVEN, **{"Idempotency-Key": "another"})["order_id"] == 2
    assert mes.end(signal.SIGTERM) == 0


def test_with_a_time_for_a_piece_orders_are_produced(mes: Mes) -> None:
    """Also those that a service which was killed had in production."""
    mes.configure(piece_s=1_000.0)
    mes.start()
    mes.ask("/api/v1/orders", GIVEN, **{"Idempotency-Key": "key"})
    wait_until(lambda: mes.ask("/api/v1/orders/1")["state"] == "in production", "the order is worked on")
    mes.end(signal.SIGKILL)
    mes.configure(piece_s=0.001)
    mes.start()
    wait_until(lambda: mes.ask("/api/v1/orders/1")["state"] == "done", "the order is done")
    assert mes.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "token", [None, "", "fifteen chars..", "with spaces in the token", "sixteen \xfcml\xe4uts"]
)
def test_without_a_good_token_it_does_not_start(mes: Mes, token: str | None) -> None:
    """And says how to make one, without repeating what was there."""
    said = mes.refused(token)
    assert f"export {TOKEN}=$(openssl rand -hex 32)" in said
    assert not token or token not in said
    assert not mes.path.exists()


def test_sixteen_characters_are_enough() -> None:
    """As they are."""
    assert read_token({TOKEN: SECRET}) == SECRET


def test_a_port_in_use_is_named(mes: Mes) -> None:
    """With its section."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mes.configure(port=port)
        said = mes.refused()
    assert (
        f"[mes] host, port: http: can't listen on host 127.0.0.1, port {port}: Address already in use" in said
    )


def test_another_programs_database_is_refused_and_left_alone(mes: Mes) -> None:
    """With what to change."""
    other = apsw.Connection(str(mes.path))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = mes.path.read_bytes()
    said = mes.refused()
    assert f"{mes.path}: is another program's database" in said
    assert "set mes.path" in said
    assert mes.path.read_bytes() == before


async def test_it_runs_within_another_program_too(tmp_path: Path) -> None:
    """For as long as the context lasts; then the file is free, and it can run again."""
    settings = MesSettings(port=0, path=str(tmp_path / "mes.db"))
    for _ in range(2):
        async with run_mes(settings, SECRET) as url:
            assert url.startswith("http://127.0.0.1:")
        assert not (tmp_path / "mes.db-wal").exists()
