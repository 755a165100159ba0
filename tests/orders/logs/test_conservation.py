"""Whatever happens to the handler and its store: what was said is written, waits, or is counted as lost."""

import asyncio

import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage.errors import StoreUnavailableError
from tests.orders.logs.desk import Desk

ROOM = 8
TOLD = "Log rows were lost"


class Lives(RuleBasedStateMachine):
    """A handler with little room, whose store goes and comes back."""

    @initialize()
    def begin(self) -> None:
        """Start with everything well."""
        self.runner = asyncio.Runner()
        self.said = 0
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.desk = Desk(max_waiting=ROOM)
        self.desk.handler.start()

    @rule(count=st.integers(1, 2 * ROOM))
    def say(self, count: int) -> None:
        """More than there is room for, sometimes."""
        for _ in range(count):
            self.desk.log.info(str(self.said))
            self.said += 1

    @rule()
    def go_away(self) -> None:
        """From now on it refuses."""
        self.desk.store.error = StoreUnavailableError("gone")

    @rule()
    def come_back(self) -> None:
        """From now on it takes rows again."""
        self.desk.store.error = None

    @rule(seconds=st.sampled_from([0.0, 0.25, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and the task gets its turns."""
        self.desk.clock.move(seconds)
        self.runner.run(_some_turns())

    @invariant()
    def nothing_is_unaccounted_for(self) -> None:
        """Rows that tell of losses were not said, and are over the limit by one at most."""
        now = self.desk.handler.statistics
        written = self.runner.run(self.desk.messages())
        assert now.written == len(written)
        told = sum(message == TOLD for message in written)
        assert now.written + now.waiting + now.lost - self.said - told in (0, 1)
        assert now.waiting <= ROOM + 1
        kept = [int(message) for message in written if message != TOLD]
        assert kept == sorted(set(kept))

    def teardown(self) -> None:
        """In the end all is written but what was told to be lost."""
        self.desk.store.error = None
        with structlog.testing.capture_logs() as lines:
            self.runner.run(self.desk.handler.close())
        now = self.desk.handler.statistics
        rows = self.runner.run(self.desk.rows())
        told = [int(row.additional_info["lost"]) for row in rows if row.message == TOLD]
        assert now.waiting == 0
        assert sum(told) == now.lost
        assert now.written + now.lost == self.said + len(told)
        assert [line["event"] for line in lines] in ([], ["log_store_back"])
        self.runner.close()


async def _some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=20)
