"""What the fault tests count on their way, one row for each test, and the table of them.

The sender, the server and the oracles note what they see anyway, in the figures of the test that runs; tests
run one after the other. So the table of a long run is made of the very numbers that the tests judge:

- sent, acknowledged: records of `Sender` and `deliver`; one that was sent again counts again.
- stored: rows of these machines, when the oracle last counted them.
- lost: acknowledged numbers without a row; where only counts are known, acknowledged beyond what the books
  account for.
- twice: rows of a number beyond the times it was sent.
- ready, drained: the longest that a server took from its start until it took data, and from when it was asked
  for that until the tables had everything.

A machine is known by the tables that it feeds and its name: two plants may each have a machine of one name.
Rows that nobody has sent are a finding, whatever else the test has looked at: a row of the table that has
more of them than were sent was counted wrongly, or stored wrongly. So is, in the long form, what took longer
than it may (`within`): it is judged when the test is over, so that its rows are counted whatever came of it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

INTERRUPTED: Final = "interrupted"
"""The verdict on a fault that was under way when its run was ended."""


class Row(msgspec.Struct, frozen=True):
    """What one test came to."""

    fault: str
    """The test's name, in words."""

    verdict: str
    """`passed`, or the beginning of what was wrong."""

    sent: int
    acknowledged: int
    stored: int
    lost: int
    twice: int
    ready_s: float | None
    drained_s: float | None
    seconds: float
    """How long the test took."""

    note: str = ""
    """What it measured beside that."""


class Run(msgspec.Struct):
    """The rows that one command has made."""

    head: str
    """On what machine, when, and by what command."""

    rows: list[Row]


class Written(msgspec.Struct):
    """`endurance.json`."""

    runs: list[Run]


def listed(counts: Mapping[str, int]) -> str:
    """What was counted, for a note."""
    return ", ".join(f"{what}: {count}" for what, count in counts.items())


class Figures:
    """What was counted so far in one test."""

    def __init__(self, *, judges_speed: bool = False) -> None:
        """With `judges_speed` it is a finding that something took longer than it may."""
        self.sent = 0
        self.acknowledged = 0
        self.ready_s: float | None = None
        self.drained_s: float | None = None
        self.notes: list[str] = []
        self.rows: dict[tuple[str, str], int] = {}
        """Rows of a machine, by the tables they are in and its name."""

        self.accounted: dict[str, int] = {}
        """Records that the books know of, by the tables."""

        self._senders: dict[tuple[str, str], tuple[int, int, int, int]] = {}
        self._judges_speed = judges_speed
        self._late: list[str] = []

    def deliver(self, sent: int, acknowledged: int) -> None:
        """Some records were sent at once."""
        self.sent += sent
        self.acknowledged += acknowledged

    def judge(
        self, tables: str, device: str, *, sent: int, acknowledged: int, missing: int, excess: int
    ) -> None:
        """What a machine sent was held against its rows in these tables; only the last time counts."""
        self._senders[tables, device] = (sent, acknowledged, missing, excess)

    def started(self, seconds: float) -> None:
        """A server takes data again."""
        self.ready_s = max(seconds, self.ready_s or 0.0)

    def drained(self, seconds: float) -> None:
        """The tables have everything."""
        self.drained_s = max(seconds, self.drained_s or 0.0)

    def within(self, what: str, seconds: float, limit_s: float) -> None:
        """Note how long something took, and how long it may."""
        said = f"{what} {seconds:.3g} s of {limit_s:g} allowed"
        self.notes.append(said)
        if self._judges_speed and seconds > limit_s:
            self._late.append(said)

    @property
    def findings(self) -> list[str]:
        """What the figures say against a test that has passed."""
        sent, stored = self._judged()[0] + self.sent, sum(self.rows.values())
        return [*([f"{stored} rows of {sent} records sent"] if stored > sent else []), *self._late]

    def row(self, fault: str, verdict: str, seconds: float) -> Row:
        """The sum of it; a test that `passed` has failed if there are findings."""
        sent, acknowledged, missing, excess = self._judged()
        acknowledged += self.acknowledged
        uncounted = acknowledged - sum(self.accounted.values()) if self.accounted else 0
        if verdict == "passed" and self.findings:
            verdict = f"failed: {'; '.join(self.findings)}"
        return Row(
            fault,
            verdict,
            self.sent + sent,
            acknowledged,
            sum(self.rows.values()),
            max(missing, uncounted, 0),
            excess,
            self.ready_s,
            self.drained_s,
            seconds,
            "; ".join(self.notes),
        )

    def _judged(self) -> tuple[int, int, int, int]:
        """Sent, acknowledged, missing, in excess, of all machines whose rows were compared."""
        sent, acknowledged, missing, excess = map(sum, zip((0,) * 4, *self._senders.values(), strict=True))
        return sent, acknowledged, missing, excess


class _Current:
    figures = Figures()


def begin(*, judges_speed: bool = False) -> Figures:
    """The figures of a test that begins."""
    _Current.figures = Figures(judges_speed=judges_speed)
    return _Current.figures


def current() -> Figures:
    """The figures of the test that runs."""
    return _Current.figures


_HEADINGS: Final = "| fault | sent | acknowledged | stored | lost | twice | ready | drained | verdict | run |"


def markdown(runs: Sequence[Run]) -> str:
    """One table of all their rows, beneath a numbered list of what made them."""
    heads = [f"{number}. {run.head}" for number, run in enumerate(runs, 1)]
    rows = [_line(row, number) for number, run in enumerate(runs, 1) for row in run.rows]
    return "\n".join([*heads, "", _HEADINGS, "|---|--:|--:|--:|--:|--:|--:|--:|---|--:|", *rows]) + "\n"


def _kind(verdict: str) -> str:
    return verdict.partition(":")[0]


def _line(row: Row, run: int) -> str:
    counts = (row.sent, row.acknowledged, row.stored, row.lost, row.twice)
    shown = [f"{count:,}".replace(",", " ") for count in counts] if row.sent else ["" for _ in counts]
    times = ["" if seconds is None else f"{seconds:.1f} s" for seconds in (row.ready_s, row.drained_s)]
    said = row.verdict if not row.note else f"{row.verdict}: {row.note}"
    return f"| {' | '.join([row.fault, *shown, *times, said.replace('|', '/'), str(run)])} |"


_SAY_NOTHING: Final = (INTERRUPTED, "skipped")


class Table:
    """The rows so far, in a folder; written anew with each, so that whatever ends a run leaves them.

    A run of hours may be made in parts: one that goes on with a table replaces the rows of its own faults
    and leaves all others.
    """

    def __init__(self, folder: Path, head: str, *, goes_on: bool = False) -> None:
        """`head` says what machine it is, and when and by what command it was made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._written = folder / "endurance.json"
        self._shown = folder / "endurance.md"
        self._before: list[Run] = []
        if goes_on and self._written.exists():
            self._before = msgspec.json.decode(self._written.read_bytes(), type=Written).runs
        self._run = Run(head, [])
        self._cases: dict[str, list[str]] = {}

    def add(self, row: Row) -> None:
        """One more, or another for its fault; one that says nothing replaces none."""
        known = [run for run in self._before if any(one.fault == row.fault for one in run.rows)]
        if known and row.verdict in _SAY_NOTHING:
            return
        for run in (*known, self._run):
            run.rows = [one for one in run.rows if one.fault != row.fault]
        self._run.rows.append(row)
        self._write()

    def case(self, fault: str, verdict: str, seconds: float) -> None:
        """One more case of a test that counts no records; all its cases are one row."""
        cases = self._cases.setdefault(fault, [])
        cases.append(verdict)
        before = sum(row.seconds for row in self._run.rows if row.fault == fault)
        wrong = next((case for case in cases if case.startswith("failed")), None)
        overall = wrong or ("passed" if "passed" in cases else verdict)
        counted = ", ".join(f"{count} {kind}" for kind, count in Counter(map(_kind, cases)).items())
        note = counted if len(cases) > 1 else ""
        self.add(Row(fault, overall, 0, 0, 0, 0, 0, None, None, before + seconds, note))

    def _write(self) -> None:
        runs = [run for run in (*self._before, self._run) if run.rows]
        self._written.write_bytes(msgspec.json.format(msgspec.json.encode(Written(runs))))
        self._shown.write_text(markdown(runs))
