"""`headrace demo`: everything at one call, and everything ended by one Ctrl-C."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.faults import processes
from tests.faults.harness import COMMAND
from tests.faults.oracle import check_books, reading
from tests.faults.waiting import wait_until


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A demo that has printed where its pages are; gone after the test, with what it started."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [COMMAND, "demo", "--machines", "5"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        try:
            yield process
        finally:
            started = processes.children(process.pid) if process.poll() is None else []
            for pid in [*started, *([process.pid] if process.poll() is None else [])]:
                processes.kill(pid)


def test_a_demo_fills_the_tables_and_ctrl_c_ends_all_of_it(
    demo: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """It says where to look and how to stop; after Ctrl-C no process is left, and the books add up."""
    assert demo.stdout is not None
    greeting = [demo.stdout.readline() for _ in range(5)]
    assert "5 simulated machines" in greeting[0]
    assert "no login" in greeting[3]
    assert "Ctrl-C" in greeting[4]
    pages = re.search(r"http://\S+", greeting[1])
    ordering = re.search(r"http://\S+", greeting[2])
    assert pages is not None
    assert ordering is not None
    for url in (f"{pages[0]}/readyz", ordering[0]):
        with urlopen(url, timeout=10) as answer:  # noqa: S310  # our own address
            assert answer.status == 200
    assert _order(pages[0])["supplier_state"] in ("queued", "in production")
    wait_until(lambda: _devices(tmp_path) == 5, "all machines have rows")
    started = processes.children(demo.pid)
    assert started, "the sink is a process of its own"
    begun = time.monotonic()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(20) == 0, (tmp_path / "log").read_text()
    assert time.monotonic() - begun < 15
    assert not processes.alive(started)
    assert "Traceback" not in (tmp_path / "log").read_text()
    check_books(tmp_path / "data/demo/headrace.db")


def _order(url: str) -> dict[str, object]:
    """At the demo's own supplier."""
    fields = {"base": "Base 40mm", "amount": 40, "drilling": "3 second Drilling", "cleaning": "Without"}
    body = json.dumps({**fields, "pressing": "Without", "inspection": "Complete"}).encode()
    request = Request(f"{url}/api/v1/orders", body, {"Content-Type": "application/json"})  # noqa: S310  # our own
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        order: dict[str, object] = json.load(answer)["order"]
    return order


def _devices(folder: Path) -> int:
    with reading(folder / "data/demo/headrace.db") as tables:
        return int(tables.execute("SELECT count(*) FROM latest_readings").get)
