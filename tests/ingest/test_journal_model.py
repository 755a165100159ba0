"""The journal against a list: whatever is done in whatever order, every sink gets every block once."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest.journal import JournalReader
from ingest.settings import MIB
from parser.block import Block
from tests.ingest.building import Desk, chain, read_all, same, until

_SINKS = ("fast", "slow")


class JournalAndList(RuleBasedStateMachine):
    """A journal with two sinks; the model is the list of all blocks ever committed."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.all: list[Block] = []
        self.had = dict.fromkeys(_SINKS, 0)
        self.readers: dict[str, JournalReader] = {}

    @initialize()
    def begin(self) -> None:
        """Open an empty journal."""
        self._open()

    def _open(self) -> None:
        self.desk = Desk(self.folder)
        self.readers = {sink: JournalReader(self.folder) for sink in _SINKS}
        for sink, block in self.had.items():
            self.desk.journal.passed(sink, block)

    @rule(sizes=st.lists(st.sampled_from([0, 900, 60_000, 400_000, 1_100_000]), min_size=1, max_size=4))
    def commit(self, sizes: list[int]) -> None:
        """Some blocks, committed in whatever groups."""
        blocks: list[Block] = []
        for size in sizes:
            last = blocks[-1] if blocks else self.all[-1] if self.all else None
            blocks += chain(1, after=last, records=min(2, size), size=size)
        self.desk.commit(blocks)
        self.all += blocks

    @rule(sink=st.sampled_from(_SINKS), max_bytes=st.sampled_from([1, 100_000, 4 * MIB]))
    def take(self, sink: str, max_bytes: int) -> None:
        """A sink reads on, and reports it."""
        found = self.readers[sink].read(self.had[sink], max_bytes)
        start = self.had[sink]
        assert same(found, self.all[start : start + len(found)])
        assert found or start == len(self.all)
        self.had[sink] = start + len(found)
        self.desk.journal.passed(sink, self.had[sink])

    @rule(sink=st.sampled_from(_SINKS))
    def take_again(self, sink: str) -> None:
        """A sink that was restarted begins with a new reader."""
        self.readers[sink].close()
        self.readers[sink] = JournalReader(self.folder)

    @rule()
    def reopen(self) -> None:
        """The server is restarted."""
        for reader in self.readers.values():
            reader.close()
        assert self.desk.close()
        self._open()
        tail = self.desk.journal.tail
        last = self.all[-1] if self.all else None
        expected = (last.id, last.next_record, last.stamp_us) if last else (0, 0, 0)
        assert (tail.block, tail.next_record, tail.stamp_us) == expected

    @rule()
    def trim(self) -> None:
        """The keeper comes round; what every sink has passed goes, but for the newest segment."""
        passed = [kept.path for kept in self.desk.journal._keeper._kept if self._is_passed(kept.last_block)]
        self.desk.journal._keeper._wake.set()
        until(lambda: sum(path.exists() for path in passed) <= 1, "the trimming")

    def _is_passed(self, block: int) -> bool:
        return block <= min(self.had.values())

    @invariant()
    def what_a_sink_needs_is_there(self) -> None:
        """Whatever was trimmed, all that the slowest sink has not had is left."""
        if self.all:
            slowest = min(self.had.values())
            assert same(read_all(self.folder, slowest), self.all[slowest:])

    def teardown(self) -> None:
        """Let go of everything."""
        for reader in self.readers.values():
            reader.close()
        self.desk.close()
        shutil.rmtree(self.folder)


TestJournalAndList = JournalAndList.TestCase
TestJournalAndList.settings = settings(max_examples=25, stateful_step_count=20)
