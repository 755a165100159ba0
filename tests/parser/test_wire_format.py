"""What docs/wire-format.md tells an engineer is what happens: its tables and its example are tried."""

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from parser.block import Block
from parser.framing import Ending, Framer
from parser.parsed import ParsedBlock
from parser.settings import RecordSettings, Rules
from parser.verdicts import Reason
from tests.parser import oracle

DOC = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text("utf-8")
RECORD = b"E0001,35.2,8000,2.5,3.7,380"
SPECIAL = {
    Reason.OVERSIZE: Rules(max_record_bytes=40),
    Reason.IMPLAUSIBLE: Rules(record=RecordSettings(limits={"power_kw": (0, 50)})),
}
"""Examples that the page shows under other settings than the defaults."""


def table(header: str) -> list[list[str]]:
    """The cells of the page's table with this header, without their code marks."""
    rows = DOC.split(f"| {header} |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


NUMBERS = table("sent | stored")
REASONS = [(row[0], row[1], row[2]) for row in table("reason | example | what is wrong")]


def judge(
    stream: bytes,
    ending: Ending = Ending.CLEAN,
    rules: Rules | None = None,
    devices: tuple[str, ...] | None = None,
) -> ParsedBlock:
    """What the server makes of a stream that ends so, from a sender that may send for these."""
    rules = rules or Rules()
    chunks = oracle.frame([stream], ending, rules)
    block: Block = oracle.block_of(
        [(1, chunk) for chunk in chunks], rules, None if devices is None else {1: devices}
    )
    return ParsedBlock.of(block)


@pytest.mark.parametrize(("sent", "stored"), NUMBERS)
def test_numbers_are_stored_as_the_page_says(sent: str, stored: str) -> None:
    """Each number of the table is taken, with the value beside it."""
    parsed = judge(RECORD.replace(b"8000", sent.encode()) + b"#")
    assert repr(parsed.columns.values[1].tolist()) == f"[{stored}]"


@pytest.mark.parametrize(("reason", "example", "wrong"), REASONS)
def test_bad_records_are_refused_as_the_page_says(reason: str, example: str, wrong: str) -> None:
    """Each example is refused for the reason beside it, and its neighbours are stored."""
    raw = example.encode().decode("unicode_escape").encode("latin-1")
    rules = SPECIAL.get(Reason(reason), Rules())
    tail = reason == Reason.TRUNCATED
    stream = b"#".join([RECORD, RECORD, raw] if tail else [RECORD, raw, RECORD, b""])
    devices = ("E0001",) if reason == Reason.WRONG_IDENTITY else None
    parsed = judge(stream, Ending.RESET if tail else Ending.CLEAN, rules, devices)
    assert [r.verdict.reason for r in parsed.columns.rejects] == [reason], wrong
    assert parsed.columns.rejects[0].raw == raw[: rules.max_record_bytes]
    assert len(parsed.columns.index) == 2


def test_the_page_has_an_example_of_each_reason() -> None:
    """In the order in which they are looked for."""
    assert list(dict.fromkeys(reason for reason, _, _ in REASONS)) == [reason.value for reason in Reason]
    wrong = {reason: text for reason, _, text in REASONS}
    assert "here 40" in wrong["oversize"]
    assert "here `limits.power_kw = [0, 50]`" in wrong["implausible"]


@pytest.mark.parametrize("value", [b"1.#QNAN", b"1.#INF"])
def test_a_number_sign_in_a_number_makes_two_rejects(value: bytes) -> None:
    """What some formatting functions print for a missing value ends the record in its middle."""
    parsed = judge(RECORD.replace(b"8000", value) + b"#" + RECORD + b"#")
    assert [r.verdict.reason for r in parsed.columns.rejects] == [Reason.FIELDS, Reason.FIELDS]
    assert len(parsed.columns.index) == 1


def test_a_shorter_last_number_is_a_record_unless_the_server_is_strict() -> None:
    """Cut off within its last number a record is as good as whole, at a clean close and only there."""
    cut_off = RECORD[:-1]
    assert judge(cut_off).columns.values[4].tolist() == [38.0]
    assert judge(cut_off).tallies["unterminated"].tolist() == [1]
    for ending in (Ending.STRICT, Ending.RESET, Ending.TIMEOUT, Ending.SHUTDOWN):
        assert [r.verdict.reason for r in judge(cut_off, ending).columns.rejects] == [Reason.TRUNCATED]


def test_names_are_taken_letter_by_letter() -> None:
    """The four spellings of the page are four machines; blanks around them are not."""
    names = [b"E1", b"e1", b"E0001", b'"E1"', b" E1\t"]
    parsed = judge(b"#".join(RECORD.replace(b"E0001", name) for name in names))
    assert set(parsed.columns.devices) == {"E1", "e1", "E0001", '"E1"'}


def test_the_python_example_sends_what_it_should() -> None:
    """It sends whole records; and reads the acknowledgements of all, rejects included, after a half-close."""
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert code
    names: dict[str, Callable[[str, int, list[bytes]], int | None]] = {}
    exec(code[1], names)  # noqa: S102  # our own page
    for name, answer in (("send", None), ("send_safely", 3)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            heard: list[bytes] = []
            server = threading.Thread(target=serve, args=(listener, heard, answer), daemon=True)
            server.start()
            port = int(listener.getsockname()[1])
            assert names[name]("127.0.0.1", port, [RECORD, b"bad", RECORD]) == answer
            server.join(30)
        assert heard == [RECORD + b"#bad#" + RECORD + b"#"]


def serve(listener: socket.socket, heard: list[bytes], answer: int | None) -> None:
    """Hear one connection out, acknowledging in two steps if asked to."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        heard.append(stream.read())
        if answer is not None:
            records = sum(chunk.records for chunk in Framer(Rules()).feed(heard[0]))
            assert records == answer
            connection.sendall(b"ACK,1#ACK,%d#" % records)
