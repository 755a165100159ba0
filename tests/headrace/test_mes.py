"""`headrace mes`: the supplier's service as a process of its own."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import apsw
import msgspec
import pytest

from headrace.mes import TOKEN, read_token, run_mes
from mes.settings import MesSettings
from tests.faults.harness import COMMAND
from tests.faults.waiting import wait_until

SECRET = "0123456789abcdef"  # noqa: S105  # it opens nothing else
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


class Mes:
    """A service that can be started again and again on the same file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "mes.log"
        self.path = folder / "mes.db"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self._environment = {**os.environ, TOKEN: SECRET}

    def configure(self, **keys: object) -> None:
        """For the next start; on a free port and with the file in the folder, if it is not said."""
        all_keys = {"port": 0, "path": str(self.path), **keys}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in all_keys.items())
        (self.folder / "mes.toml").write_text(f"[mes]\n{lines}")

    def start(self) -> None:
        """Until it has printed its address."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self._words(), env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("mes: http://127.0.0.1:"), self.log.read_text()
        self.url = line.removeprefix("mes: ").strip()

    def end(self, number: signal.Signals) -> int:
        """A signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def refused(self, token: str | None = SECRET) -> str:
        """Start where it must not start; the one line that it says."""
        environment = {name: value for name, value in os.environ.items() if name != TOKEN}
        if token is not None:
            environment[TOKEN] = token
        done = subprocess.run(
            self._words(), env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("headrace: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    def ask(self, path: str, body: object = None, **headers: str) -> dict[str, object]:
        """A GET, or a POST where there is a body."""
        data = None if body is None else msgspec.json.encode(body)
        request = Request(f"{self.url}{path}", data, {"Authorization": f"Bearer {SECRET}", **headers})  # noqa: S310  # our own address
        with urlopen(request, timeout=10) as answer:  # noqa: S310  # our own address
            return msgspec.json.decode(answer.read(), type=dict[str, object])

    def _words(self) -> list[str | Path]:
        return [COMMAND, "mes", "--config", self.folder / "mes.toml", "--log-format", "json"]


@pytest.fixture
def mes(tmp_path: Path) -> Iterator[Mes]:
    """A service that is not yet started, and that is gone after the test."""
    made = Mes(tmp_path)
    made.configure()
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)


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
