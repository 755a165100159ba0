"""A call of the logger becomes the row that was meant."""

from inspect import currentframe

import pytest
import structlog

from orders.logs.base import Level, LogRow
from orders.logs.logger import ActivityLogger
from orders.logs.trace import tracing
from tests.orders.logs.building import NOON
from tests.orders.logs.desk import Desk

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def desk() -> Desk:
    """One that writes when it is closed."""
    return Desk()


async def said(desk: Desk) -> list[LogRow]:
    """The rows of all that was said."""
    await desk.handler.close()
    return await desk.rows()


def line() -> int:
    """Where this is called."""
    frame = currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


async def test_a_row_says_who_where_and_why(desk: Desk) -> None:
    """As in the row that was given as an example."""
    user = "Factory_model_customer"
    desk.log.warning("Connection attempt failed", user_id=user, reason="Invalid credentials")
    (row,) = await said(desk)
    assert row == LogRow(
        id=row.id,
        timestamp=NOON,
        user_id="Factory_model_customer",
        additional_info={"reason": "Invalid credentials"},
        level=Level.WARN,
        message="Connection attempt failed",
        source_component="CustomerOrder",
        source_file="AmpFacadeAPI",
        source_line=row.source_line,
    )


async def test_levels_are_those_of_the_table(desk: Desk) -> None:
    """And each call's line is its own."""
    last = line()
    desk.log.info("routine")
    desk.log.warning("odd")
    desk.log.error("slow")
    desk.log.critical("over")
    found = [(row.message, row.level, row.source_line - last) for row in await said(desk)]
    assert found == [
        ("routine", Level.INFO, 1),
        ("odd", Level.WARN, 2),
        ("slow", Level.ERROR, 3),
        ("over", Level.FATAL, 4),
    ]


async def test_the_line_is_that_of_the_call(desk: Desk) -> None:
    """From a bound logger, over several lines, and from within a function that only helps."""

    def helps(log: ActivityLogger) -> int:
        log.info("helped")
        return line() - 1

    bound = desk.log.bind(order=9)
    first = line() + 1
    bound.info(
        "an order",
        user_id="Factory_model_customer",
    )
    helped = helps(bound)
    found = await said(desk)
    assert [row.source_line for row in found] == [first, helped]
    assert [row.additional_info for row in found] == [{"order": "9"}] * 2


async def test_the_context_is_in_the_row(desk: Desk) -> None:
    """The trace and whose request it is; what a call says goes before."""
    with tracing(TRACE), structlog.contextvars.bound_contextvars(user_id="one", route="/orders"):
        desk.log.info("theirs")
        desk.log.info("another's", user_id="two", trace_id="forged", route="said")
    desk.log.info("nobody's")
    first, second, third = await said(desk)
    assert (first.user_id, second.user_id, third.user_id) == ("one", "two", "")
    assert first.additional_info == {"trace_id": TRACE, "route": "/orders"}
    assert second.additional_info == {"trace_id": TRACE, "route": "said"}
    assert third.additional_info == {}


async def test_no_name_takes_a_columns_place(desk: Desk) -> None:
    """Whatever a call names goes to additional_info."""
    names = ["event", "message", "level", "source_component", "source_file", "lineno", "id", "timestamp"]
    names += ["additional_info", "source_line", "exc_info", "_record", "method_name", "file", "component"]
    desk.log.info("said", **dict.fromkeys(names, "forged"))
    (row,) = await said(desk)
    assert row.additional_info == dict.fromkeys(names, "forged")
    assert (row.message, row.level, row.source_component) == ("said", Level.INFO, "CustomerOrder")
    assert "forged" not in (str(row.source_line), row.source_file)


async def test_a_percent_sign_is_a_percent_sign(desk: Desk) -> None:
    """A message is no template."""
    desk.log.info("100 %s {} %(x)d")
    assert (await said(desk))[0].message == "100 %s {} %(x)d"


async def test_values_become_texts(desk: Desk) -> None:
    desk.log.info("said", amount=40, price=600.0, nothing=None, dry=True, which=Level.INFO, raw=b"\x00")
    assert (await said(desk))[0].additional_info == {
        "amount": "40",
        "price": "600.0",
        "nothing": "None",
        "dry": "True",
        "which": "INFO",
        "raw": r"b'\\x00'",
    }


async def test_a_row_has_bounds(desk: Desk) -> None:
    """Keys, values, message and user; the trace is in it however much is said."""
    info = {"k" * 90 + str(number): "v" * 90_000 for number in range(3)}
    info |= {f"key{number}": "v" for number in range(90)}
    with tracing(TRACE):
        desk.log.info("m" * 90_000, user_id="u" * 90_000, **info)
    (row,) = await said(desk)
    assert len(row.additional_info) == 16
    assert row.additional_info["trace_id"] == TRACE
    assert max(map(len, row.additional_info)) == 64
    assert max(map(len, row.additional_info.values())) == 500
    assert (len(row.message), len(row.user_id)) == (500, 64)
    assert row.message.endswith("m…")


async def test_saying_never_raises(desk: Desk) -> None:
    """What can't be made into a row is counted; the row after it is written."""

    class Unspeakable:
        def __str__(self) -> str:
            raise ZeroDivisionError

    desk.log.info("said", what=Unspeakable())
    desk.log.error("said", what=Unspeakable())
    assert desk.handler.statistics.lost == 2
    desk.log.info("after")
    found = await said(desk)
    assert [row.message for row in found] == ["after", "Log rows were lost"]


async def test_rows_of_one_millisecond_keep_their_order(desk: Desk) -> None:
    """Thousands of them, and behind them those of the next."""
    for number in range(3_000):
        desk.log.info("said", number=number)
        if number % 1_000 == 999:
            desk.clock.move(0.001)
    found = await said(desk)
    assert [row.additional_info["number"] for row in found] == list(map(str, range(3_000)))
    assert len({row.id for row in found}) == 3_000
    assert {row.id.version for row in found} == {7}
