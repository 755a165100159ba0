"""A line: one of the connections that machines hold to the server, over all its breaks.

A line has one link at a time. When that breaks, the line connects again, after a pause that grows while
connections don't last, and goes on. Records that were never written go over the next link. Those that were
written but not acknowledged may have arrived or not: they are only sent again if that is wanted.

    RUNNING --end()--> ENDING --give_up()--> OVER     (from both, when the server acknowledges wrongly)
    connects again     only if something     never
    whenever it broke  is left to be sent
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Final

from simulator.errors import AcknowledgementError, UnreachableError
from simulator.garbage import Kind
from simulator.link import Link, Parcel
from simulator.machine import Indices
from simulator.options import SimulateOptions
from simulator.scenarios import Manner
from simulator.source import Record

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
LASTS_S: Final = 1.0
"""A connection that lived so long makes the pause short again."""

AT_ONCE: Final = 256
"""How many connections may be in the making at one time."""


class Stage(StrEnum):
    """What a line does about a break."""

    RUNNING = "running"
    ENDING = "ending"
    OVER = "over"


class Line:
    """A connection that is made again when it breaks."""

    def __init__(
        self,
        number: int,
        devices: Indices,
        options: SimulateOptions,
        manner: Manner,
        *,
        gate: asyncio.Semaphore,
        changed: Callable[["Line"], None],
    ) -> None:
        """Prepare a connection.

        Args:
            number: which one it is, from 0.
            devices: indices of the machines that send over it.
            options: of the run.
            manner: of the scenario.
            gate: bounds how many connections are in the making.
            changed: is called when the line becomes ready, or ceases to be.
        """
        self.number, self.devices = number, devices
        self.links: list[Link] = []
        self.error: AcknowledgementError | None = None
        """What the server acknowledged wrongly; then the line is over."""

        self._options, self._manner = options, manner
        self._gate, self._changed = gate, changed
        self._rng = Random(f"{options.seed}:{number}")  # noqa: S311  # repeatable, not secret
        self._link: Link | None = None
        self._owed: deque[Parcel] = deque()
        self._pending: list[Parcel] = []
        self._opening: asyncio.Task[None] | None = None
        self._failures = 0
        self._stage = Stage.RUNNING

    @property
    def ready(self) -> bool:
        """Whether its machines can send."""
        return self._link is not None and self._link.ready

    def take(self, record: Record) -> None:
        """Send this record, as soon as there are enough of them for a packet."""
        self._pending.append((record, False))
        if len(self._pending) >= self._options.burst:
            self._flush()

    async def connect(self) -> None:
        """Make the connection, once.

        Raises:
            UnreachableError: nobody listens there.
        """
        options = self._options
        loop = asyncio.get_running_loop()
        try:
            async with self._gate, asyncio.timeout(options.connect_timeout_s):
                _, link = await loop.create_connection(
                    self._new_link, options.host, options.port, ssl=options.tls
                )
        except OSError as error:
            reason = error.strerror or str(error) or f"no answer within {options.connect_timeout_s:g} s"
            raise UnreachableError(f"{options.host}:{options.port} cannot be reached: {reason}") from error
        self.links.append(link)
        loop.call_later(LASTS_S, self._forgive, link)
        if not link.ended:
            self._link = link
            self._send_owed()
            self._changed(self)

    def reconnect(self) -> None:
        """Make the connection in the background, however long it takes."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._insist())

    def renew(self) -> None:
        """End the connection in good order, and make another one at the same time."""
        if self._link is not None:
            self._flush()
            link, self._link = self._link, None
            link.finish()
            self._failures = 0
            self._changed(self)
            self.reconnect()

    async def end(self, last: Record | None) -> None:
        """Send what is left, and this last record; have it acknowledged; close. Wants a deadline outside."""
        if self._stage is Stage.RUNNING:
            self._stage = Stage.ENDING
        if last is not None:
            self._pending.append((last, False))
        self._flush()
        while self._stage is Stage.ENDING and (self._link is not None or self._owed):
            await self._end_link(reset=last is not None and last.kind is Kind.CUT_OFF)
        for link in self.links:
            await link.gone.wait()

    async def give_up(self) -> list[Record]:
        """Let go of everything at once.

        Returns:
            the records that were never written
        """
        self._stage = Stage.OVER
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        for link in self.links:
            link.abort()
            await link.gone.wait()
        left = [*self._owed, *self._pending]
        return [record for record, again in left if not again]

    def link_changed(self, link: Link) -> None:
        """Pass it on, if it is the link in use."""
        if link is self._link:
            self._changed(self)

    def link_gone(self, link: Link) -> None:
        """Keep what is still to be sent, and go on over another link."""
        if link.error is not None:
            self.error, self._stage = link.error, Stage.OVER
        self._owed.extend(link.take_leftovers())
        if link is self._link:
            self._link = None
            self._changed(self)
        if self._link is not None:
            self._send_owed()
        elif self._stage is Stage.RUNNING or (self._stage is Stage.ENDING and self._owed):
            self.reconnect()

    def _new_link(self) -> Link:
        options = self._options
        return Link(
            self, self._manner, self._rng, acks=options.ack, resends=options.resend, logs=options.numbered
        )

    async def _insist(self) -> None:
        try:
            while self._link is None:
                await self._pause()
                self._failures += 1
                try:
                    await self.connect()
                except UnreachableError:
                    continue
        finally:
            self._opening = None

    async def _pause(self) -> None:
        if self._failures:
            longest = min(FIRST_PAUSE_S * 2 ** min(self._failures, 10), LONGEST_PAUSE_S)
            await asyncio.sleep(longest * self._rng.uniform(0.5, 1))

    def _forgive(self, link: Link) -> None:
        if not link.ended:
            self._failures = 0

    def _flush(self) -> None:
        packet, self._pending = self._pending, []
        if self._link is not None and packet:
            self._link.send(packet)
        else:
            self._owed.extend(packet)

    def _send_owed(self) -> None:
        while self._link is not None and self._owed:
            size = min(self._options.burst, len(self._owed))
            self._link.send([self._owed.popleft() for _ in range(size)])

    async def _end_link(self, *, reset: bool) -> None:
        if self._link is None:
            self.reconnect()
            assert self._opening is not None  # noqa: S101  # `reconnect` made it
            await asyncio.wait([self._opening])
            return
        link = self._link
        if reset:
            await link.reset()
        else:
            link.finish()
            await link.gone.wait()
