"""The work is linear in the bytes, shown by counting it: no clock is asked."""

import pytest

from parser.arrow import Table, read_csv
from parser.columns import Columns, parse_columns
from parser.reference import parse_record
from parser.settings import RecordSettings, Rules
from parser.verdicts import Verdict

GOOD = b"E0001,35.2,8000,2.5,3.7,380#"
BAD = [
    *(b"E1,2,3#", b"E1,1,2,3,4,5,6#", b"E1,x,2,3,4,5#", b"E1,1,nan,3,4,5#", b"E1,1,1e400,3,4,5#"),
    *(b"E\xff1,1,2,3,4,5#", b"E1,1\n,2,3,4,5#", b"a" * 600 + b"#", b"E1,--1,2,3,4,5#", b"E1,1.2.3,2,3,4,5#"),
    *(b"\xef\xbb\xbfE1,1,2,3,4,5#", b" #", b"E1,1e1,2,3,4,5#", b" E1,1,2,3,4,5#"),
]


class Work:
    """What parsing a payload took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.visits = 0
        """Records shown to the plain parser."""

        self.readings = 0
        """Texts given to the reader."""

        self.bytes = 0
        """Their bytes, together."""

        def visit(raw: bytes, rules: Rules) -> Verdict:
            self.visits += 1
            return parse_record(raw, rules)

        def read(text: bytes, record: RecordSettings) -> Table:
            self.readings += 1
            self.bytes += len(text)
            return read_csv(text, record)

        monkeypatch.setattr("parser.columns.parse_record", visit)
        monkeypatch.setattr("parser.columns.read_csv", read)

    def of(self, payload: bytes) -> Columns:
        """Parse a payload, counting from nothing."""
        self.visits = self.readings = self.bytes = 0
        return parse_columns(payload, Rules(), {})


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """The counters, in place."""
    return Work(monkeypatch)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("places", [[0], [500], [999], range(0, 1000, 100), range(1000)], ids=str)
def test_only_bad_records_cost_a_visit(work: Work, bad: bytes, places: list[int] | range) -> None:
    """Bad records at the start, middle, end or everywhere: one visit each at most, and two readings."""
    records = [GOOD] * 1000
    for place in places:
        records[place] = bad
    payload = b"".join(records)
    work.of(payload)
    assert work.visits <= len(places)
    assert work.readings <= 2
    assert work.bytes <= 2 * len(payload)


def test_bad_records_of_all_kinds_mixed(work: Work) -> None:
    """Kinds don't multiply: the work for a mixture is the sum of each one's."""
    records = [BAD[i // 10 % len(BAD)] if i % 10 == 3 else GOOD for i in range(2000)]
    columns = work.of(b"".join(records))
    assert work.visits <= 200
    assert work.readings <= 2
    assert len(columns.index) >= 1800


@pytest.mark.parametrize("edge", [b"", b"\n", b"\r\n", b"\0", b"\r\n\r\n\0"])
def test_clean_text_is_read_once_and_never_visited(work: Work, edge: bytes) -> None:
    """Good records, empty ones among them and line breaks around them, cost one reading and nothing else."""
    columns = work.of(b"".join([edge + GOOD, GOOD, edge + b"#", GOOD[:-1] + edge + b"#", b"#"] * 200))
    assert columns.index.shape == (600,)
    assert (work.visits, work.readings) == (0, 1)


def test_blanks_around_numbers_cost_nothing_in_clean_text(work: Work) -> None:
    """A machine that pads its numbers is no reason to look twice."""
    work.of(GOOD.replace(b",", b", ") * 1000)
    assert (work.visits, work.readings) == (0, 1)


def test_empty_records_alone(work: Work) -> None:
    """A flood of delimiters is counted, not looked at."""
    columns = work.of(b"#" * 10_000)
    assert columns.index.size == len(columns.rejects) == work.visits == 0
