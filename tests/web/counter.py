"""The order side of a served shop, in memory: who may order, and a supplier at some address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from orders.accounts.managing import AccountManager
from orders.accounts.memory import MemoryAccountStore
from orders.accounts.passwords import Passwords
from orders.accounts.security import SecurityController
from orders.book.memory import MemoryOrderBook
from orders.facade import AmpFacade
from orders.logs.handler import LogHandler
from orders.logs.memory import MemoryLogStore
from orders.logs.trace import current_trace, new_trace, traceparent_of
from orders.metrics import OrderMetrics
from orders.settings import AccountSettings, KeepDays, LogSettings, OrderSettings
from orders.supplier import Supplier
from web.office import Office

NOBODY: Final = "http://127.0.0.1:9"
"""Where no supplier is."""


class Counter:
    """Where orders are taken."""

    def __init__(
        self,
        *,
        login: bool = True,
        mes_url: str = NOBODY,
        mes_token: str = "",
        settings: OrderSettings | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        self.login = login
        self._mes = (mes_url, mes_token)
        self.settings = settings or OrderSettings(timeout_s=2)
        self.accounts = MemoryAccountStore()
        self.logs = MemoryLogStore(KeepDays())
        self.book = MemoryOrderBook()
        self.passwords = passwords or Passwords()

    @property
    def manager(self) -> AccountManager:
        """Who makes users and tokens."""
        return AccountManager(self.accounts, self.passwords, log=structlog.get_logger())

    async def add_user(self, name: str, *roles: str, password: str | None = None) -> None:
        """Somebody with these roles."""
        await self.manager.add_user(name, password, roles)

    async def token(self, name: str) -> str:
        """A new token of somebody."""
        text, _ = await self.manager.create_token(name, "tests", 1)
        return text

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Office]:
        """Until the context ends."""
        handler = LogHandler(self.logs, LogSettings(), CollectorRegistry())
        handler.start()
        security = SecurityController(
            self.accounts,
            AccountSettings(),
            log=handler.logger(component="Authentication", file="SecurityController"),
            passwords=self.passwords,
        )
        log = handler.logger(component="CustomerOrder", file="AmpFacadeAPI")
        metrics = OrderMetrics(CollectorRegistry())
        async with Supplier(*self._mes, timeout_s=self.settings.timeout_s) as supplier:
            facade = AmpFacade(
                self.book, supplier, self.settings, log, metrics=metrics, traceparent=_traceparent
            )
            yield Office(
                security=security if self.login else None,
                facade=facade,
                logs=self.logs,
                log=handler.logger(component="Gateway", file="AmpFacadeAPI"),
            )
        await handler.close()
        await security.close()


def _traceparent() -> str:
    return traceparent_of(current_trace() or new_trace())
