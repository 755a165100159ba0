"""A customer, the gateway, a network that can lose things, and the supplier's MES: all real processes.

The gateway is the whole server, and knows the supplier only by the proxy's address, so the MES may come back
on another port. What is left is read from both sides' own tables, not asked of the processes.
"""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from typing import Final, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from devcluster import Cluster
from orders.book.base import id_of
from storage.settings import CassandraSettings
from tests.faults import cassandra_oracle, oracle
from tests.faults.harness import COMMAND, Server, Settings
from tests.faults.proxy import Direction, Fate, Proxy, arrives, read_some
from tests.faults.supplier import Mes
from tests.faults.waiting import wait_until

WANTED: Final = {
    "base": "Base 40mm",
    "amount": 40,
    "drilling": "3 second Drilling",
    "cleaning": "Without",
    "pressing": "Without",
    "inspection": "Complete",
}
ANSWER_S: Final = 20.0
"""Longer than the gateway may take with all its tries: who waits longer waits for nothing."""

_BOOK: Final = "SELECT id, state, order_id FROM customer_orders"


class Entry(NamedTuple):
    """What the gateway's book says of an order."""

    state: str
    order_id: int | None


class Answer(NamedTuple):
    """What the customer hears; status 0 where the connection ended without a word."""

    status: int
    body: dict[str, object]

    @property
    def number(self) -> object:
        """The supplier's, in the answer to an order that was placed."""
        order = self.body["order"]
        assert isinstance(order, dict)
        return order["order_id"]


class Shop:
    """All of them, on one folder; with a cluster the gateway's tables lie there."""

    def __init__(
        self,
        server: Server,
        mes: Mes,
        proxy: Proxy,
        cluster: tuple[Cluster, CassandraSettings] | None = None,
    ) -> None:
        self.server, self.mes, self.proxy = server, mes, proxy
        self.path = server.folder / "orders.db"
        self.log = server.folder / "log.db"
        self._cluster = cluster
        self._token = ""
        self._user = 0
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="customer")
        self.server.configure(self._settings())

    def open(self) -> None:
        """Make the customer, and start everything."""
        self.start_mes()
        self.server.start()  # makes the keyspace, where there is a cluster
        made = self._call("user", "add", "plant", "--role", "customer", "--no-password")
        self._user = int(made.partition("user ")[2].partition(",")[0])
        self._token = self._call("token", "create", "plant", "--label", "x", "--days", "1").strip()
        self._wait_open()

    def start_gateway(self) -> None:
        """Start it, and wait until it reaches its tables: with a cluster, longer than a request may take."""
        self.server.start()
        self._wait_open()

    def start_mes(self) -> None:
        """Start it, on whichever port."""
        self.mes.start()
        self.proxy.target = ("127.0.0.1", self.mes.port)

    def close(self) -> None:
        """Leave nothing running."""
        self.server.clean_up()
        self.mes.clean_up()
        self._pool.shutdown()

    def order(self, key: str) -> Answer:
        """Order with this key, and wait for what comes of it."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        return self._ask(headers, json.dumps(WANTED).encode())

    def _wait_open(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        wait_until(lambda: self._ask(headers).status == 200, "the gateway reaches its tables", 60)

    def _ask(self, headers: dict[str, str], body: bytes | None = None) -> Answer:
        request = Request(f"{self.server.url}/api/v1/orders", body, headers)  # noqa: S310  # our own address
        try:
            with urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310  # our own address
                return Answer(answer.status, json.loads(answer.read()))
        except HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()))
        except (HTTPException, OSError):
            return Answer(0, {})

    def begin(self, key: str) -> "Future[Answer]":
        """The same, beside the test."""
        return self._pool.submit(self.order, key)

    def book(self) -> dict[str, Entry]:
        """The gateway's rows, by id."""
        if self._cluster is not None:
            with cassandra_oracle.reading(self._cluster[1]) as session:
                return {str(id_): Entry(str(state), _number(n)) for id_, state, n in session.execute(_BOOK)}
        with oracle.reading(self.path) as book:
            return {str(id_): Entry(str(state), _number(n)) for id_, state, n in book.execute(_BOOK)}

    def id_of(self, key: str) -> str:
        """Of the customer's order with this key."""
        return id_of(self._user, key)

    def supplied(self) -> dict[str, int]:
        """The supplier's orders, by the key that it was given; an order without one fails the test."""
        with oracle.reading(self.mes.path) as tables, tables:  # both of one moment
            rows = tables.execute("SELECT key, order_id FROM requests").fetchall()
            orders = tables.execute("SELECT count(*) FROM orders").get
        assert orders == len(rows), "an order that nobody asked for"
        return {str(key): int(str(number)) for key, number in rows}

    @contextmanager
    def stuck_book(self) -> Iterator[None]:
        """Nothing gets into the gateway's book meanwhile: another program holds it, or its node is paused."""
        if self._cluster is None:
            with oracle.locked(self.path):
                yield
            return
        node = self._cluster[0].nodes[0]
        node.pause()
        try:
            yield
        finally:
            node.resume()

    def check(self, keys: set[str]) -> None:
        """Wait until all of these are sent; then each is exactly one order, with one number on both sides."""
        wanted = {self.id_of(key) for key in keys}
        wait_until(lambda: self._sent() >= wanted, "the book knows what became of each", 60, rest=0.2)
        supplied = self.supplied()
        assert supplied.keys() == wanted
        assert len(set(supplied.values())) == len(wanted)
        assert self.book() == {id_: Entry("sent", number) for id_, number in supplied.items()}

    def _sent(self) -> set[str]:
        return {id_ for id_, entry in self.book().items() if entry.state == "sent"}

    def _settings(self) -> Settings:
        folder = self.server.folder
        settings: dict[str, dict[str, object]] = {
            "accounts": {"path": str(folder / "accounts.db")},
            "orders": {"path": str(self.path), "mes_url": f"http://127.0.0.1:{self.proxy.port}"},
            "log": {"path": str(self.log)},
        }
        if self._cluster is not None:
            tables = cassandra_oracle.on_cassandra(self._cluster[1])
            settings |= {name: dict(keys) for name, keys in tables.items()}
        return settings

    def _call(self, *words: str) -> str:
        done = subprocess.run(
            [COMMAND, *words, "--config", self.server.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def losing(direction: Direction) -> Iterator[None]:
    """What goes this way is lost meanwhile, and its connection lives on."""
    direction.fate = lambda _: Fate.IS_LOST
    try:
        yield
    finally:
        direction.fate = arrives


@contextmanager
def opened(
    server: Server, mes: Mes, cluster: tuple[Cluster, CassandraSettings] | None = None
) -> Iterator[Shop]:
    """A shop that is open; nothing of it is left after."""
    with Proxy("127.0.0.1", 0, read=read_some) as proxy:
        shop = Shop(server, mes, proxy, cluster)
        try:
            shop.open()
            yield shop
        finally:
            shop.close()


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
