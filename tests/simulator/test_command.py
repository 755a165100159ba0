"""`headrace simulate` as an engineer calls it: exit status, one clear line, an interrupt."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from simulator.command import simulate
from simulator.truth import Truth
from tests.simulator.sink import Sink, until


def call(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(simulate, arguments, prog_name="headrace simulate")


async def start(*arguments: str | Path) -> asyncio.subprocess.Process:
    """The command in a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from simulator.command import simulate; simulate()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resend"], "resend: needs ack"),
        (["--devices", "0"], "--devices"),
        (["--scenario", "panic"], "'panic' is not one of"),
        (["--malformed", "1.5"], "--malformed"),
        (["--blast", "--rate", "3"], "--rate means nothing with --blast"),
        (["--per-packet"], "--per-packet needs --blast"),
        (["--truth", "/no/such/folder/truth.json"], "there is no folder /no/such/folder"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], says: str) -> None:
    """Exit status 2."""
    result = call(*arguments)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize("mode", [[], ["--blast"]])
async def test_nobody_listening_is_one_line(mode: list[str]) -> None:
    """Exit status 1, where and why."""
    async with Sink() as sink:
        port = str(sink.port)
    process = await start("--port", port, *mode)
    _, errors = await process.communicate()
    assert process.returncode == 1
    [line] = errors.decode().splitlines()
    assert line.startswith("headrace: ")
    assert f"127.0.0.1:{port}" in line


async def test_a_run_ends_with_its_sum_and_its_truth(tmp_path: Path) -> None:
    """Exit status 0, and the file agrees with what the server got."""
    path = tmp_path / "truth.json"
    async with Sink(acks=True) as sink:
        process = await start(
            "--port", str(sink.port), "--records", "100", "--rate", "50", "--ack", "--truth", path
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().startswith("100 records sent in ")
    assert "100 acknowledged" in output.decode()
    assert Truth.read(path).totals.sent == sink.received == 100


async def test_what_was_not_acknowledged_is_a_failure() -> None:
    """Exit status 1, and how many."""
    async with Sink(acks=True) as sink:
        sink.acks_at_most = 0
        process = await start("--port", str(sink.port), "--records", "10", "--rate", "50", "--ack")
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "headrace: 10 records were not acknowledged" in errors.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_ends_in_good_order(number: signal.Signals) -> None:
    """A run without end is stopped: its sum is printed, all its records have arrived; exit status 0."""
    async with Sink() as sink:
        process = await start("--port", str(sink.port))
        await until(lambda: sink.received > 20)
        process.send_signal(number)
        output, _ = await process.communicate()
        await until(lambda: not sink.open)
    assert process.returncode == 0
    assert output.decode().startswith(f"{sink.received:,} records sent in ")
    assert not any(stream.tail for stream in sink.streams)


async def test_a_blast_says_its_rate() -> None:
    """All records of the block arrive, and the rate is printed."""
    async with Sink(acks=True) as sink:
        process = await start(
            "--port", str(sink.port), "--blast", "--records", "5000", "--ack", "--connections", "2"
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().startswith("5,000 records sent in ")
    assert "5,000 acknowledged" in output.decode()
    assert sink.received == 5000
