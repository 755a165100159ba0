"""The benchmark of Cassandra runs in all its parts, and every writer in it writes the same rows."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.cassandra.bench import Bench
from benchmarks.cassandra.files import files
from benchmarks.cassandra.peers import (
    Acsylla,
    driver_batches,
    in_batches,
    in_seconds,
    python_rows,
    row_by_row,
)
from benchmarks.cassandra.ready import ReadyWriter
from benchmarks.cassandra.run import PARTS
from benchmarks.cassandra.shapes import FIVE_COLUMNS, FROZEN, Shape
from benchmarks.cassandra.target import Target
from benchmarks.command import PARTS as NAMES
from benchmarks.command import bench
from benchmarks.running import blast
from devcluster import missing
from parser.settings import VALUES
from simulator.blast import prepare
from storage.settings import CassandraSettings
from tests.faults.harness import COMMAND
from tests.support.cassandra import VARIABLE, Cassandra
from tests.support.needing import need

pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(600)]

_ROWS = 6_000


@pytest.fixture
def settings(cassandra: Cassandra) -> CassandraSettings:
    """Of a keyspace that nobody has used."""
    points = tuple(cassandra.contact_points)
    return CassandraSettings(contact_points=points, port=cassandra.port, keyspace=cassandra.keyspace())


@pytest.fixture
def ours(settings: CassandraSettings) -> Iterator[ReadyWriter]:
    """Our writer, beside the tables of the others."""
    with closing(ReadyWriter(settings)) as writer:
        for shape in (FIVE_COLUMNS, FROZEN):
            writer.connected.execute(shape.create)
        yield writer
        writer.connected.execute(f"DROP KEYSPACE {settings.keyspace}")


def test_every_part_can_be_chosen() -> None:
    assert tuple(PARTS) == NAMES


def test_parts_are_measured_but_a_cluster_that_is_not_ours_is_not_paused(
    cassandra: Cassandra, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where = ",".join(f"{host}:{cassandra.port}" for host in cassandra.contact_points)
    monkeypatch.setenv("HEADRACE_CASSANDRA_CONTACT_POINTS", where)
    parts = [f"--only={part}" for part in ("shape", "sockets", "latency", "read", "backlog")]
    words = ["cassandra", "--runs", "1", "--rows", str(_ROWS), "--out", str(tmp_path), *parts]
    result = CliRunner().invoke(bench, words, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "cassandra.json").read_text())
    assert all(figure["rate"] > 0 for figure in report["figures"])
    assert len([found for found in report["comparisons"] if found["target"]]) == 5
    assert "backlog: not measured" in result.stderr


def test_files_are_measured_where_the_node_is_ours(cassandra: Cassandra, settings: CassandraSettings) -> None:
    """All of them, whatever compacts them; of a cluster that is not ours nobody knows."""
    assert files(Bench(Target(settings), 1, _ROWS, _ROWS)) == ([], [])
    need(cassandra.node is not None, f"no node of our own: unset {VARIABLE}")
    figures, comparisons = files(Bench(Target(settings, cassandra.node), 1, _ROWS, _ROWS))
    assert [figure.name.partition(" ")[2] for figure in figures] == ["TimeWindow", "Unified", "SizeTiered"]
    assert all(10 < float(figure.note.partition(" ")[0]) < 1_000 for figure in figures)
    assert len(comparisons) == 2


def test_a_benchmark_that_is_ended_ends_its_node(tmp_path: Path) -> None:
    """And leaves no folder."""
    need(not missing(), missing())
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command: list[str | Path] = [COMMAND, "bench", "cassandra", "--rows", "1000", "--out", tmp_path]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "measuring writers\n"
        (record,) = tmp_path.glob("headrace-bench-*/*/process")
        node = int(record.read_text().split()[0])
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("headrace-bench-*"))
    assert not Path(f"/proc/{node}").exists()


def test_a_rate_counts_rows_in_cassandra(ours: ReadyWriter, settings: CassandraSettings) -> None:
    figure, sent = blast("cassandra", prepare(10, 1_000), _ROWS, cassandra=settings)
    assert figure.rate > 0
    assert ours.connected.execute("SELECT count(*) FROM readings") == [(sent.sent,)]


@pytest.mark.parametrize("mortal", [False, True], ids=["for ever", "that expire"])
def test_our_writer_writes_the_rows_that_the_others_get(ours: ReadyWriter, *, mortal: bool) -> None:
    (ours.write_mortal if mortal else ours.write)(_ROWS)
    assert _rows_in(ours, FROZEN, "readings") == sorted(python_rows(FIVE_COLUMNS, _ROWS))
    lives = ours.connected.execute("SELECT ttl(reading) FROM readings")
    assert all((life is not None) == mortal for (life,) in lives)


@pytest.mark.parametrize("shape", [FIVE_COLUMNS, FROZEN], ids=["five columns", "frozen"])
def test_every_writer_writes_the_same_rows(
    ours: ReadyWriter, settings: CassandraSettings, shape: Shape
) -> None:
    """One that wrote less would look faster."""
    rows = python_rows(shape, _ROWS)
    with closing(Acsylla(settings)) as acsylla:
        writes = [
            partial(row_by_row, ours.connected, shape, rows),
            partial(driver_batches, ours.connected, shape, in_batches(rows)),
            partial(acsylla.write, shape, in_seconds(in_batches(rows))),
        ]
        if shape is FIVE_COLUMNS:
            writes.append(partial(ours.write_five_columns, _ROWS))
        for write in writes:
            write()
            assert _rows_in(ours, shape, shape.table) == sorted(python_rows(FIVE_COLUMNS, _ROWS))
            ours.connected.execute(f"TRUNCATE {shape.table}")


def _rows_in(ours: ReadyWriter, shape: Shape, table: str) -> list[tuple[Any, ...]]:
    """All rows, as Python values of five columns."""
    values = ", ".join(VALUES if shape is FIVE_COLUMNS else [f"reading.{name}" for name in VALUES])
    cql = (
        f"SELECT device_id, toUnixTimestamp(bucket), toUnixTimestamp(received_at), seq, {values} FROM {table}"  # noqa: S608
    )
    return sorted(tuple(row) for row in ours.connected.execute(cql))
