"""docs/tables.md tells the truth: its tables are those of the database, its queries run as they stand."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from storage.base import MINUTE_MS
from storage.sqlite.connect import open_for_reading
from storage.sqlite.schema import APPLICATION_ID, VERSION
from storage.sqlite.writer import SqliteTableWriter
from tests.storage.building import JOURNAL, Machinery, closed, opened, record

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
DOC = PAGE.partition("## The log of the order gateway\n")[0]
"""The telemetry's part; `tests/orders/` tries the other."""

_HEADED = r"^### ([^\n]+\?)\n(?:(?!###)[^\n]*\n)*?```sql\n(.*?)```"
QUERIES: dict[str, str] = dict(re.findall(_HEADED, DOC, re.MULTILINE | re.DOTALL))
HOUR_MS = 60 * MINUTE_MS

Row = dict[str, object]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two hours up to now: E0001 draws 6 kW all the time, E0002 fell silent an hour ago; one was rude."""
    path = tmp_path_factory.mktemp("tables") / "headrace.db"
    writer = SqliteTableWriter(path)
    writer.claim(3, JOURNAL, adopt=False)
    machinery = Machinery(at=int(time.time()) * 1_000 - 2 * HOUR_MS)
    writer.write(None, [machinery.block(events=(opened(1), opened(2, "10.0.0.8:4000")))], JOURNAL)
    for second in range(0, 7_200, 10):
        cursor = machinery.cursor
        sent = [(1, record("E0001", 20.0, 3_000.0, 1.0, 6.0))]
        if second < 3_600:
            sent.append((2, record("E0002", 20.0, 0.0, 0.0, 1.0) + b"E0002,warm,1,2,3,4#"))
        events = (closed(2, why="eof"),) if second == 3_600 else ()
        writer.write(cursor, [machinery.block(sent, events=events, later_ms=10_000)], JOURNAL)
    yield path
    writer.close()


def _ask(path: Path, question: str) -> list[Row]:
    connection = open_for_reading(path)
    cursor = connection.execute(QUERIES[question], _parameters(question))
    rows = [
        {column[0]: value for column, value in zip(cursor.description, row, strict=True)} for row in cursor
    ]
    connection.close()
    return rows


def _parameters(question: str) -> dict[str, str | int]:
    start = int(time.time()) * 1_000 - 3 * HOUR_MS
    device = "E0002" if "not understood" in question else "E0001"
    return {"device": device, "start": start, "end": start + 4 * HOUR_MS, "seq": -1}


def _all_machines(rows: list[Row]) -> bool:
    return [row["device_id"] for row in rows] == ["E0001", "E0002"] and rows[0]["power_kw"] == 6.0


def _kwh(rows: list[Row]) -> bool:
    sums = {"E0001": 0.0, "E0002": 0.0}
    for row in rows:
        sums[str(row["device_id"])] += float(str(row["kwh"]))
    return sums == {"E0001": pytest.approx(6 * 719 / 360), "E0002": pytest.approx(359 / 360)}


ANSWERS: dict[str, Callable[[list[Row]], bool]] = {
    "What does every machine say right now?": _all_machines,
    "What did one machine do in the last hour?": lambda rows: 350 <= len(rows) <= 361,
    "What did it do in any stretch of time, page by page?": lambda rows: len(rows) == 720,
    "What were the averages of each minute?": lambda rows: (
        {row["power_kw"] for row in rows} == {6.0} and sum(int(str(row["records"])) for row in rows) == 720
    ),
    "How many kWh did each machine take on each day?": _kwh,
    "How long did each machine cut?": lambda rows: rows == [{"device_id": "E0001", "seconds": 7_190.0}],
    "Which machines have been silent for five minutes?": lambda rows: (
        [row["device_id"] for row in rows] == ["E0002"]
    ),
    "What did a machine send that was not understood?": lambda rows: (
        len(rows) == 100
        and rows[0]["record"] == "E0002,warm,1,2,3,4"
        and rows[0]["field"] == "spindle_temperature_c"
    ),
    "What is wrong with the records, and from where do they come?": lambda rows: (
        [(row["peer"], row["reason"], row["records"]) for row in rows] == [("10.0.0.8:4000", "number", 360)]
    ),
    "Who is connected?": lambda rows: [(row["connection"], row["stored"]) for row in rows] == [(1, 720)],
    "How did connections end today?": lambda rows: (
        rows in ([], [{"why": "eof", "connections": 1, "stored": 360, "rejected": 360}])
    ),
    "How much arrived in each hour?": lambda rows: (
        sum(int(str(row["received"])) for row in rows) == 1_440
        and sum(int(str(row["stored"])) for row in rows) == 1_080
    ),
    "Did we lose anything?": lambda rows: rows == [],
}


def test_every_question_is_tried() -> None:
    """No query stands in the document that no test knows, and none is missing."""
    assert QUERIES.keys() == ANSWERS.keys()
    assert DOC.count("```sql") == len(QUERIES)


@pytest.mark.parametrize("question", ANSWERS)
def test_a_query_answers_its_question(path: Path, question: str) -> None:
    """The query, as it stands in the document, gives the right answer on tables that are being written."""
    rows = _ask(path, question)
    assert ANSWERS[question](rows), rows


@pytest.mark.parametrize("question", ANSWERS)
def test_no_query_reads_all_readings(path: Path, question: str) -> None:
    """Queries go by machine and time: each searches `readings`, none scans it."""
    connection = open_for_reading(path)
    plan = connection.execute("EXPLAIN QUERY PLAN " + QUERIES[question], _parameters(question)).fetchall()
    connection.close()
    steps = [str(step[-1]) for step in plan]
    assert not [step for step in steps if step.startswith("SCAN readings")], steps


def test_a_loss_is_seen(path: Path, tmp_path: Path) -> None:
    """The last question's query does find a minute that is missing, and one that does not add up."""
    copy = tmp_path / "copy.db"
    source = open_for_reading(path)
    source.execute("VACUUM INTO ?", (str(copy),))
    source.close()
    connection = apsw.Connection(str(copy))
    minutes = [row[0] for row in connection.execute("SELECT minute FROM ledger ORDER BY minute")]
    connection.execute("DELETE FROM ledger WHERE minute = ?", (minutes[9],))
    connection.execute("UPDATE ledger SET stored = stored + 1 WHERE minute = ?", (minutes[40],))
    connection.close()
    rows = _ask(copy, "Did we lose anything?")
    assert [row["minute"] for row in rows] == [minutes[10], minutes[40]]


def test_every_table_and_column_is_described(path: Path) -> None:
    """The document names what the database has, and nothing else; versions and marks included."""
    connection = open_for_reading(path)
    tables = connection.execute(
        "SELECT m.name, c.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c"
        " WHERE m.type = 'table' ORDER BY m.name"
    ).fetchall()
    connection.close()
    described = {
        (table, column)
        for tables_, text in re.findall(r"^### ([a-z_, ]+)\n(.*?)(?=^##)", DOC, re.MULTILINE | re.DOTALL)
        for table, column in _columns(tables_.split(", "), text)
    }
    like_readings = {("latest_readings", column) for table, column in described if table == "readings"}
    assert described | like_readings == set(tables)
    assert f"is the version of the tables, {VERSION};" in DOC
    assert f"Headrace's, {APPLICATION_ID}." in DOC


def _columns(tables: list[str], text: str) -> Iterator[tuple[str, str]]:
    table = tables[0]
    for line in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")]
        if len(tables) > 1:
            table = (*cells[0], table)[0]
        for column in cells[0 if len(tables) == 1 else 1]:
            yield table, column


def test_the_example_in_python_runs(path: Path) -> None:
    """A reader with the standard library, in a process of its own, while the tables are written."""
    (example,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example.replace("data/headrace.db", str(path))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "E0001 6.0\nE0002 1.0\n"
