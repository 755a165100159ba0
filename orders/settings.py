"""`[accounts]`, `[orders]` and `[log]`: the sections of the order gateway.

With the embedded database each keeps its tables in a file of its own, so that none waits for another's
commits; with Cassandra they lie in the keyspace of the telemetry.
"""

from typing import Annotated, Literal

import msgspec

from storage.files import WithPath

_Path = Annotated[str, msgspec.Meta(min_length=1)]
_Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]

StderrLevel = Literal["info", "warning", "error"]
"""Of what a process says of itself; nothing is said below."""


class AccountSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[accounts]`: who may do what, and for how long a login lasts."""

    path: _Path = "data/accounts.db"
    """The file of users, tokens and sessions on the embedded database."""

    session_hours: Annotated[float, msgspec.Meta(gt=0, le=720)] = 12.0
    """A login ends so long after it began."""

    failures: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """So many wrong passwords in a row lock a name, or slow an address down."""

    lockout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 300.0
    """For how long; each further wrong password begins it anew."""


class OrderSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[orders]`: the supplier's MES. Its token comes from `HEADRACE_MES_TOKEN`."""

    path: _Path = "data/orders.db"
    """The file of the gateway's orders on the embedded database."""

    mes_url: Annotated[str, msgspec.Meta(pattern="^https?://[^/?#@]+$")] = "http://127.0.0.1:9481"
    """Where the supplier's MES answers, without a path."""

    timeout_s: _Seconds = 5.0
    """How long the supplier may take for an order, with all tries."""

    max_amount: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1_000
    """Pieces in one order, at most."""

    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    """Orders under way at one time; above that 503 is answered at once."""


class KeepDays(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log.keep_days]`: for how long rows of each level stay."""

    INFO: _Days = 30.0
    WARN: _Days = 90.0
    ERROR: _Days = 365.0
    FATAL: _Days = 3_650.0


class LogSettings(WithPath, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: the log of the gateway."""

    path: _Path = "data/log.db"
    """Its file on the embedded database."""

    keep_days: KeepDays = KeepDays()

    max_waiting: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Rows that wait to be written; what comes above that is only counted."""

    stderr_level: StderrLevel = "info"
    """What the processes say on standard error, from this level on; rows are written of every level."""
