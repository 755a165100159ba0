"""Orders, queue and keys in their file."""

import asyncio
from pathlib import Path

import apsw
import pytest

from mes.amp import store as store_
from mes.amp.errors import KeyReusedError
from mes.amp.orders import Placed
from mes.amp.states import State
from mes.amp.store import AmpStore
from storage.errors import SchemaError
from tests.mes.amp import ROW, STAMP_MS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The store's file."""
    return tmp_path / "mes.db"


async def place(store: AmpStore, count: int) -> list[Placed]:
    """So many orders, all at once."""
    return await asyncio.gather(*(store.place(f"key {number}", b"", ROW) for number in range(count)))


async def test_the_given_order_is_a_row_as_it_was_given(store: AmpStore, path: Path) -> None:
    """The ninth, with exactly these columns; its entry in the queue and its key beside it."""
    await place(store, 8)
    placed = await store.place("the ninth", b"digest", ROW)
    assert (placed.order.order_id, placed.order.place, placed.is_new) == (9, 9, True)
    await store.close()
    tables = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    cursor = tables.execute("SELECT * FROM orders WHERE order_id = 9")
    names = [name for name, _ in cursor.get_description()]
    assert names == ["order_id", "user_id", "product_id", "amount", "price", "received_at"]
    assert cursor.get == (9, 1, 8, 40, 600, STAMP_MS)
    assert tables.execute("SELECT * FROM queue WHERE order_id = 9").get == (9, "queued", STAMP_MS)
    assert tables.execute("SELECT * FROM requests WHERE order_id = 9").get == ("the ninth", 9, b"digest")
    tables.close()


async def test_the_file_is_strict_and_says_whose_it_is(store: AmpStore, path: Path) -> None:
    """Another program sees what it is, and can't put a text where a number belongs."""
    await store.open()
    await store.close()
    tables = apsw.Connection(str(path))
    assert tables.pragma("application_id") == int.from_bytes(b"Hmes")
    with pytest.raises(apsw.ConstraintError, match="cannot store TEXT"):
        tables.execute("INSERT INTO orders VALUES (1, 'one', 8, 40, 600, 0)")
    tables.close()


def test_another_programs_file_is_refused_and_left_alone(path: Path) -> None:
    """It names the setting."""
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"another program's database .* set mes\.path"):
        asyncio.run(AmpStore(path).open())
    assert path.read_bytes() == before


async def test_a_key_brings_the_same_order_whoever_is_quicker(store: AmpStore) -> None:
    """Fifty times at once: one order, and one of them made it."""
    placed = await asyncio.gather(*(store.place("key", b"digest", ROW) for _ in range(50)))
    assert {each.order.order_id for each in placed} == {1}
    assert sum(each.is_new for each in placed) == 1


async def test_a_key_brings_the_order_as_it_is_now_also_after_a_restart(store: AmpStore, path: Path) -> None:
    """And with another request it is refused, without a trace."""
    await store.place("key", b"digest", ROW)
    await store.move(1, State.IN_PRODUCTION, STAMP_MS + 1)
    await store.close()
    again = AmpStore(path)
    order, is_new = await again.place("key", b"digest", ROW)
    assert (order.order_id, order.state, is_new) == (1, State.IN_PRODUCTION, False)
    with pytest.raises(KeyReusedError, match="another request, that of order 1"):
        await again.place("key", b"other", ROW)
    assert (await again.place("key 2", b"other", ROW)).order.order_id == 2
    await again.close()


async def test_what_is_refused_between_others_takes_no_number(store: AmpStore) -> None:
    """Numbers count 1, 2, 3 in the order of arrival, also where many share a commit."""
    await store.place("key", b"digest", ROW)
    results = await asyncio.gather(
        *(store.place("key", b"other", ROW) if n % 3 else store.place(f"{n}", b"", ROW) for n in range(90)),
        return_exceptions=True,
    )
    made = [each.order.order_id for each in results if isinstance(each, Placed)]
    assert made == list(range(2, 32))
    assert sum(isinstance(each, KeyReusedError) for each in results) == 60


async def test_places_close_up_when_orders_leave(store: AmpStore) -> None:
    """Over more orders than are counted together; what is done or cancelled has no place."""
    placed = await place(store, 600)
    assert [each.order.place for each in placed] == list(range(1, 601))
    for order_id in range(1, 301):
        await store.move(order_id, State.IN_PRODUCTION, STAMP_MS)
        await store.move(order_id, State.DONE, STAMP_MS)
    await store.move(450, State.CANCELLED, STAMP_MS)
    await store.move(302, State.IN_PRODUCTION, STAMP_MS)
    line = await store.queue(None, after=0, limit=1_000)
    assert [order.order_id for order in line] == [*range(301, 450), *range(451, 601)]
    assert [order.place for order in line] == list(range(1, 300))
    assert [order.place for order in await store.orders([1, 450])] == [None, None]


async def test_the_queue_is_read_by_pages_and_by_states(store: AmpStore) -> None:
    """Behind an order's number."""
    await place(store, 5)
    await store.move(2, State.CANCELLED, STAMP_MS)
    await store.move(1, State.IN_PRODUCTION, STAMP_MS)

    async def numbers(state: State | None, after: int, limit: int) -> list[int]:
        return [order.order_id for order in await store.queue(state, after=after, limit=limit)]

    assert await numbers(None, 0, 2) == [1, 3]
    assert await numbers(None, 3, 2) == [4, 5]
    assert await numbers(State.QUEUED, 0, 9) == [3, 4, 5]
    assert await numbers(State.CANCELLED, 0, 9) == [2]
    assert await numbers(State.DONE, 0, 9) == []


async def test_of_many_numbers_those_that_there_are_come_once(store: AmpStore) -> None:
    """By number."""
    await place(store, 3)
    assert [order.order_id for order in await store.orders([3, 99, 1, 3, 0])] == [1, 3]
    assert await store.orders([]) == []


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 100 000 orders that are done, and 100 000 that wait."""
    path = tmp_path_factory.mktemp("crowded") / "mes.db"

    async def make() -> None:
        store = AmpStore(path)
        await store.open()
        await store.close()

    asyncio.run(make())
    tables = apsw.Connection(str(path))
    with tables:
        tables.execute(_MANY)
    tables.close()
    return path


_MANY = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
        INSERT INTO orders SELECT n, 1, 8, 40, 600, 0 FROM numbers;
    INSERT INTO queue SELECT order_id, iif(order_id > 100000, 'received', 'done'), 0 FROM orders;
    UPDATE queue SET state = 'queued' WHERE order_id > 100000;
"""


@pytest.mark.parametrize(
    ("question", "values", "place"),
    [
        (store_.ONE, (200_000,), 100_000),
        (store_.IN_LINE, (0, 1), 1),
        (store_.IN_LINE, (150_000, 1), 50_001),
        (store_.IN_STATE, ("queued", 0, 1), 1),
        (store_.IN_STATE, ("done", 99_999, 1), None),
    ],
)
def test_a_place_is_found_by_looking_at_few_rows(
    crowded: Path, question: str, values: tuple[str | int, ...], place: int | None
) -> None:
    """Counted in SQLite's own steps; to look at all open orders would take 400 000."""
    tables = apsw.Connection(str(crowded))
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return False

    tables.set_progress_handler(count, 100)
    (row,) = tables.execute(question, values).fetchall()
    tables.close()
    assert row[-1] == place
    assert looks < 100
