"""The log of what was refused, under callers who are refused again and again."""

from http import HTTPStatus
from typing import cast

from litestar.types import Scope

from web.office import Refusals
from web.problems import ParameterError, ProblemError


class Said:
    """A log that is read by the test."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, dict[str, object]]] = []

    def info(self, message: str, /, **info: object) -> None:
        """Keep it."""
        self.rows.append(("info", message, info))

    def warning(self, message: str, /, **info: object) -> None:
        """Keep it."""
        self.rows.append(("warning", message, info))

    def error(self, message: str, /, **info: object) -> None:
        """Keep it."""
        self.rows.append(("error", message, info))


SCOPE = cast("Scope", {"type": "http", "method": "POST", "path": "/api/v1/orders", "user": None})
REFUSED = ParameterError("amount", "must be 1 to 1000 pieces")


async def test_a_flood_of_refusals_fills_no_log() -> None:
    """600 a minute stand one by one, the others are counted and told when the minute is over."""
    said, time = Said(), [0.0]
    refusals = Refusals(said, lambda: time[0])
    for _ in range(1_000):
        await refusals.note(REFUSED, SCOPE)
    assert len(said.rows) == 600
    time[0] = 60.0
    await refusals.note(REFUSED, SCOPE)
    (_, told, info), (_, message, _) = said.rows[600:]
    assert (told, info) == ("Refused requests were not written one by one", {"count": 400})
    assert message == "Request was refused"


async def test_what_failed_is_told_apart_from_what_was_refused() -> None:
    """Ours is an error that says nothing of the inside; theirs a warning; what is not there is no row."""
    said = Said()
    refusals = Refusals(said)
    await refusals.note(RuntimeError("a secret of the inside"), SCOPE)
    await refusals.note(REFUSED, SCOPE)
    await refusals.note(ProblemError(HTTPStatus.NOT_FOUND, "nothing"), SCOPE)
    (failed, what, inside), (level, _, info) = said.rows
    assert (failed, what, inside["status"], inside["reason"]) == (
        "error",
        "Request failed",
        500,
        "RuntimeError",
    )
    assert (level, info["status"], info["reason"]) == ("warning", 400, "amount: must be 1 to 1000 pieces")
