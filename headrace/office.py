"""The wiring of the order gateway: stores, log, accounts, the way to the supplier."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry

from headrace.config import Config
from orders.accounts.factory import open_accounts
from orders.accounts.security import SecurityController
from orders.book.factory import open_book
from orders.facade import AmpFacade
from orders.logs.factory import open_log
from orders.logs.handler import LogHandler
from orders.logs.trace import current_trace, new_trace, traceparent_of
from orders.metrics import OrderMetrics
from orders.supplier import Supplier
from web.office import Office

_FILE: Final = "AmpFacadeAPI"


@asynccontextmanager
async def run_office(config: Config, registry: CollectorRegistry, mes_token: str) -> AsyncIterator[Office]:
    """The gateway's parts for as long as the context lasts; nothing is asked of any database yet."""
    async with AsyncExitStack() as stack:
        logs = open_log(config.storage, config.log)
        stack.push_async_callback(logs.close)
        handler = LogHandler(logs, config.log, registry)
        handler.start()
        stack.push_async_callback(handler.close)
        facade = await _facade(stack, config, handler, OrderMetrics(registry), mes_token)
        yield Office(
            security=await _security(stack, config, handler),
            facade=facade,
            logs=logs,
            log=handler.logger(component="Gateway", file=_FILE),
        )


async def _security(stack: AsyncExitStack, config: Config, handler: LogHandler) -> SecurityController | None:
    if not config.http.login:
        return None
    accounts = open_accounts(config.storage, config.accounts)
    stack.push_async_callback(accounts.close)
    log = handler.logger(component="Authentication", file="SecurityController")
    security = SecurityController(accounts, config.accounts, log=log)
    stack.push_async_callback(security.close)
    return security


async def _facade(
    stack: AsyncExitStack, config: Config, handler: LogHandler, metrics: OrderMetrics, mes_token: str
) -> AmpFacade:
    book = open_book(config.storage, config.orders)
    stack.push_async_callback(book.close)
    supplier = await stack.enter_async_context(
        Supplier(config.orders.mes_url, mes_token, timeout_s=config.orders.timeout_s)
    )
    log = handler.logger(component="CustomerOrder", file=_FILE)
    facade = AmpFacade(book, supplier, config.orders, log, metrics=metrics, traceparent=_traceparent)
    stack.push_async_callback(facade.close)
    resolving = asyncio.create_task(facade.resolve_for_ever())
    stack.callback(resolving.cancel)
    return facade


def _traceparent() -> str:
    return traceparent_of(current_trace() or new_trace())
