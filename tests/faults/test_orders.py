"""The gateway and the supplier's MES are killed at any step of an order, and the log goes away: one order."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import pytest

from headrace.mes import TOKEN
from tests.faults.conftest import MakeServer
from tests.faults.oracle import locked, reading
from tests.faults.shop import Answer, Shop, losing, opened
from tests.faults.supplier import SECRET, Mes
from tests.faults.waiting import wait_until

pytestmark = pytest.mark.fault

_CARRIED_OUT: Final = "SELECT additional_info FROM log WHERE message LIKE '%successfully carried out'"

_DELAYS_S: Final = (0.0, 0.05)
"""How long the supplier's answers are on their way, in turn."""

_moments = random.Random(1)  # noqa: S311  # no secret; repeatable

ON_BOTH: Final = ["embedded", pytest.param("cassandra", marks=pytest.mark.cassandra)]


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """An open shop on the embedded database, or on the cluster."""
    monkeypatch.setenv(TOKEN, SECRET)
    cluster = None
    if getattr(request, "param", "embedded") == "cassandra":
        cluster = request.getfixturevalue("one_node"), request.getfixturevalue("tables")
    mes = Mes(tmp_path)
    mes.configure()
    with opened(make_server(), mes, cluster) as shop:
        yield shop


@pytest.mark.parametrize("shop", ON_BOTH, indirect=True)
def test_a_mes_killed_before_it_answers_makes_one_order_of_each(shop: Shop) -> None:
    """The customer hears that nobody knows yet, or the number; once the MES is back the book says it."""
    keys = {f"key {number}" for number in range(5)}
    with losing(shop.proxy.answers):
        answers = [shop.begin(key) for key in keys]
        wait_until(lambda: len(shop.supplied()) == len(keys), "the MES has the orders")
        shop.mes.end(signal.SIGKILL)
        heard = [answer.result() for answer in answers]
    assert {answer.status for answer in heard} == {504}
    assert {answer.body["state"] for answer in heard} == {"forwarding"}
    shop.start_mes()
    shop.check(keys)
    supplied = shop.supplied()
    for key in keys:
        assert shop.order(key).number == supplied[shop.id_of(key)]
    assert shop.supplied() == supplied


def test_a_mes_that_is_back_in_time_is_not_noticed(shop: Shop) -> None:
    """Killed and started again while the customer waits: at worst the customer hears of the number later."""
    with losing(shop.proxy.answers):
        answer = shop.begin("key")
        wait_until(lambda: len(shop.supplied()) == 1, "the MES has the order")
    shop.mes.end(signal.SIGKILL)
    shop.start_mes()
    assert answer.result().status in (200, 504)
    shop.check({"key"})


def before_the_row(shop: Shop, key: str) -> "Future[Answer]":
    """The order is with the gateway, whose book can't be written."""
    with shop.stuck_book():
        answer = shop.begin(key)
        time.sleep(0.5)  # nobody can see from outside how far it has come
        shop.server.kill()
    return answer


def before_sending(shop: Shop, key: str) -> "Future[Answer]":
    """It is in the book, and nothing of it reaches the supplier."""
    with losing(shop.proxy.requests):
        answer = shop.begin(key)
        wait_until(lambda: shop.id_of(key) in shop.book(), "it is in the book")
        shop.server.kill()
    return answer


def before_the_answer(shop: Shop, key: str) -> "Future[Answer]":
    """The supplier has it, and its answer is lost."""
    with losing(shop.proxy.answers):
        answer = shop.begin(key)
        wait_until(lambda: shop.id_of(key) in shop.supplied(), "the supplier has it")
        shop.server.kill()
    return answer


def before_it_is_noted(shop: Shop, key: str) -> "Future[Answer]":
    """The supplier's answer is there, and the book can't be written."""
    shop.proxy.answers.delay_s = 1.0
    answer = shop.begin(key)
    wait_until(lambda: shop.id_of(key) in shop.supplied(), "the supplier has it")
    with shop.stuck_book():
        time.sleep(1.5)  # the answer arrives
        shop.server.kill()
    shop.proxy.answers.delay_s = 0.0
    return answer


def found_at(shop: Shop, key: str) -> str:
    """Which step of this order a kill hit, as far as the tables tell."""
    entry = shop.book().get(shop.id_of(key))
    if entry is None:
        return "not in the book"
    if entry.state == "sent":
        return "noted, not answered"
    return "sent, not noted" if shop.id_of(key) in shop.supplied() else "in the book, not sent"


STEPS: Final[dict[Callable[[Shop, str], "Future[Answer]"], set[str]]] = {
    before_the_row: {"not in the book"},
    before_sending: {"in the book, not sent"},
    before_the_answer: {"sent, not noted"},
    before_it_is_noted: {"sent, not noted", "noted, not answered"},
}
"""What may be found then: a node that goes on still takes what had come to its socket."""


@pytest.mark.parametrize("shop", ON_BOTH, indirect=True)
@pytest.mark.long(minutes=3)
def test_a_gateway_killed_at_any_step_makes_one_order_of_a_key(shop: Shop) -> None:
    """The customer, who heard nothing, tries again with the same key; so does the gateway by itself."""
    assert shop.order("first").status == 200
    for step, found in STEPS.items():
        answer = step(shop, step.__name__)
        assert answer.result().status == 0
        assert found_at(shop, step.__name__) in found
        shop.start_gateway()
        assert shop.order(step.__name__).status == 200
    shop.check({"first", *(step.__name__ for step in STEPS)})


def test_what_was_in_the_book_is_sent_without_the_customer(shop: Shop) -> None:
    """A gateway that is started again sends what it knows of; what it never wrote down was not ordered."""
    for step in STEPS:
        assert step(shop, step.__name__).result().status == 0
        shop.start_gateway()
    shop.check({step.__name__ for step in STEPS if step is not before_the_row})


@pytest.mark.parametrize("shop", ON_BOTH, indirect=True)
def test_a_gateway_killed_at_random_moments_makes_one_order_of_a_key(shop: Shop, *, long_form: bool) -> None:
    """What was answered keeps its number, and what was not gets one with the next try."""
    numbers: dict[str, object] = {"first": shop.order("first").number}
    hit: Counter[str] = Counter()
    took_s = [_place_all(shop, delay_s, numbers) for delay_s in _DELAYS_S]
    kill = 0
    while kill < (30 if long_form else 5) or (len(hit) < 2 and kill < 30):
        turn = kill % len(_DELAYS_S)
        shop.proxy.answers.delay_s = _DELAYS_S[turn]
        pending = {f"{kill}/{number}": shop.begin(f"{kill}/{number}") for number in range(32)}
        time.sleep(_moments.uniform(0.0, took_s[turn]))
        shop.server.kill()
        heard = {key: answer.result() for key, answer in pending.items()}
        numbers |= {key: answer.number for key, answer in heard.items() if answer.status == 200}
        hit.update(found_at(shop, key) for key, answer in heard.items() if answer.status != 200)
        shop.start_gateway()
        for key, answer in [(key, shop.begin(key)) for key in heard]:
            again = answer.result()
            if again.status in (503, 504):  # a book or a supplier that is slow just after the start
                again = shop.order(key)
            assert again.status == 200, again.body
            assert numbers.setdefault(key, again.number) == again.number
        kill += 1
    print("the kills hit:", dict(hit))  # noqa: T201  # shows where
    assert len(hit) > 1
    shop.check(set(numbers))
    supplied = shop.supplied()
    assert {shop.id_of(key): number for key, number in numbers.items()} == supplied


def _place_all(shop: Shop, delay_s: float, numbers: dict[str, object]) -> float:
    """How many seconds as many orders take when nobody is killed."""
    shop.proxy.answers.delay_s = delay_s
    begun = time.monotonic()
    pending = {f"{delay_s}/{number}": shop.begin(f"{delay_s}/{number}") for number in range(32)}
    numbers |= {key: answer.result().number for key, answer in pending.items()}
    return time.monotonic() - begun


@pytest.mark.long(minutes=1.5)
def test_orders_go_on_while_the_log_can_not_be_written(shop: Shop, *, long_form: bool) -> None:
    """For a minute in the long form: each is placed, and the log has all of them afterwards, once."""
    assert shop.order("first").status == 200
    keys = {"first"}
    with locked(shop.log):
        until = time.monotonic() + (60 if long_form else 0)
        while time.monotonic() < until or not shop.server.said_event("log_store_away"):
            key = f"key {len(keys)}"
            assert shop.order(key).status == 200
            keys.add(key)
            time.sleep(0.05)
        assert len(_logged(shop)) < len(keys)
    wait_until(lambda: len(_logged(shop)) >= len(keys), "the log has what happened meanwhile")
    assert sorted(_logged(shop)) == sorted(shop.id_of(key) for key in keys)
    wait_until(lambda: shop.server.said_event("log_store_back"), "it says that the log is back")
    assert shop.server.metric("headrace_log_lost_total") == 0
    shop.check(keys)


def _logged(shop: Shop) -> list[str]:
    """The orders that the log says were carried out."""
    with reading(shop.log) as log:
        return [str(info).partition('"order":"')[2][:32] for (info,) in log.execute(_CARRIED_OUT)]
