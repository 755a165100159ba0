"""What the driver's errors mean to a store, in one line that names the cluster.

Some answers of a node (overloaded, bootstrapping, a syntax error, ...) the driver hands on as it read them
from the wire: they are exceptions, but none of the driver's own family.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cassandra import (
    AuthenticationFailed,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    RequestExecutionException,
    RequestValidationException,
    Unauthorized,
    protocol,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from storage.errors import SchemaError, StorageError, StoreSlowError, StoreUnavailableError
from storage.settings import CassandraSettings

_CHECKED: Final = "; `headrace db init` checks the tables"

_GRANT: Final = "let an administrator grant it, or, for CREATE, run `headrace db init` once"

PASSWORD: Final = "HEADRACE_CASSANDRA_PASSWORD"  # noqa: S105  # the name of a variable

DRIVERS: Final = (DriverException, protocol.ErrorMessage, NoHostAvailable, ConnectionException, OSError)
"""All that the driver raises when a cluster can't be asked or refuses."""

_MEANINGS: Final[tuple[tuple[type[BaseException], type[StorageError], str], ...]] = (
    (OperationTimedOut, StoreSlowError, ""),
    (RequestValidationException, SchemaError, _CHECKED),
    (protocol.RequestValidationException, SchemaError, _CHECKED),
    (RequestExecutionException, StoreUnavailableError, ""),
    (ConnectionException, StoreUnavailableError, ""),
    (OSError, StoreUnavailableError, ""),
    (DriverException, StoreUnavailableError, ""),
    (protocol.ErrorMessage, StoreUnavailableError, ""),
    (BaseException, StorageError, ""),
)
"""The first that fits counts."""


def shown(settings: CassandraSettings) -> str:
    """How messages name the cluster and keyspace."""
    return f"cassandra {','.join(settings.contact_points)}:{settings.port} {settings.keyspace}"


@contextmanager
def translated(settings: CassandraSettings) -> Iterator[None]:
    """Turn the driver's errors into those of a store."""
    try:
        yield
    except DRIVERS as error:
        raise meaning(settings, error) from error


def meaning(settings: CassandraSettings, error: BaseException) -> StorageError:
    """What an error of the driver means to a store."""
    name = shown(settings)
    if isinstance(error, StorageError):
        return error
    if isinstance(error, NoHostAvailable):
        return _no_host(settings, error)
    if isinstance(error, AuthenticationFailed):
        return SchemaError(f"{name}: {_words(error)}; see [storage.cassandra] username and {PASSWORD}")
    if isinstance(error, Unauthorized):
        return SchemaError(f"{name}: {_words(error)}; {_GRANT}")
    if is_guardrail(error):
        return StoreUnavailableError(f"{name}: {_words(error)}")
    _, meant, advice = next(meaning for meaning in _MEANINGS if isinstance(error, meaning[0]))
    return meant(f"{name}: {_words(error)}{advice}")


def is_guardrail(error: BaseException) -> bool:
    """Whether a node refuses what it would take at other times, as when its disk is too full."""
    return isinstance(error, InvalidRequest) and _words(error).startswith("Guardrail ")


def _no_host(settings: CassandraSettings, error: NoHostAvailable) -> StorageError:
    reasons = list(error.errors.values()) if isinstance(error.errors, dict) else []
    refused = next((why for why in reasons if isinstance(why, AuthenticationFailed)), None)
    if refused is not None:
        return meaning(settings, refused)
    why = f": {_words(reasons[0])}" if reasons else ""
    return StoreUnavailableError(f"{shown(settings)}: no node can be reached{why}")


def _words(error: BaseException) -> str:
    """The error in one line, without what the driver wraps around it."""
    text = " ".join((str(error) or type(error).__name__).split())
    _, found, message = text.partition('message="')
    return (message.removesuffix(">").removesuffix('"') if found else text)[:300]
