"""A floor whose people log in and order: the order gateway, with the supplier's real MES behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from mes.amp.states import State
from orders.settings import OrderSettings
from tests.browser.floor import Floor, running
from tests.browser.page import Page
from tests.orders.supplier_side import TOKEN, Mes
from tests.web.counter import Counter
from web.server import Address

CUSTOMER: Final = "Factory_model_customer"
MANAGER: Final = "Manager"
OPERATOR: Final = "Operator"
ADMINISTRATOR: Final = "Administrator"
ROLES: Final = {
    CUSTOMER: "customer",
    MANAGER: "manager",
    OPERATOR: "operator",
    ADMINISTRATOR: "administrator",
}
PASSWORD: Final = "a wheel turns below it"  # noqa: S105  # of nobody


class Gateway(Floor):
    """Everything done to it happens in its loop, as with any floor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        super().__init__(loop, 0)
        self.mes = Mes(folder)
        self.counter = Counter()
        self._supplier = contextlib.AsyncExitStack()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Address]:
        """With the supplier, and with a user of each role."""
        await self._supplier.enter_async_context(self.mes.served())
        settings = OrderSettings(timeout_s=3)
        self.counter = Counter(mes_url=self.mes.url, mes_token=TOKEN, settings=settings)
        for name, role in ROLES.items():
            await self.counter.add_user(name, role, password=PASSWORD)
        async with self.shop.serve(port=self.port, counter=self.counter) as address:
            yield address
        await self._supplier.aclose()
        await self.mes.store.close()

    def lose_supplier(self) -> None:
        """Nobody answers at the supplier's any more."""
        self.ask(self._supplier.aclose())

    def find_supplier(self) -> None:
        """Somebody answers there again."""
        self.ask(self._supplier.enter_async_context(self.mes.served()))

    def ordered(self) -> int:
        """How many orders the supplier has."""
        return self.ask(self.mes.orders())

    def work(self, order_id: int, state: State) -> None:
        """The supplier brings an order into a state."""
        self.ask(self.mes.service.set_state(order_id, state))


@contextmanager
def serve_gateway(folder: Path) -> Iterator[Gateway]:
    """A served gateway for as long as the context lasts; the supplier keeps its orders in the folder."""
    with running(lambda loop: Gateway(loop, folder)) as gateway:
        yield gateway


def log_in(page: Page, name: str, path: str = "/") -> None:
    """Ask for a page, and log in as this user on the way to it."""
    page.open(path)
    page.until(lambda: page.all("#login"))
    enter(page, name, PASSWORD)
    page.until(lambda: page.all("#leave") and not page.all("#login"))


def enter(page: Page, name: str, password: str) -> None:
    """Send these on the page of the login."""
    for selector, text in (("#name", name), ("#password", password)):
        page.find(selector).clear()
        page.find(selector).send_keys(text)
    page.find("#login button").click()
