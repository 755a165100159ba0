"""What may be done, and which role may do it."""

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What a route asks of its caller."""

    ORDERS_SUBMIT = "orders:submit"
    """Send orders, and see and cancel one's own."""

    ORDERS_READ_ALL = "orders:read-all"
    """See everybody's orders, and the supplier's queue."""

    LOGS_READ = "logs:read"
    """Read the log."""

    USERS_MANAGE = "users:manage"
    """Make and change users and tokens."""

    TELEMETRY_READ = "telemetry:read"
    """See machines and their readings."""


ROLES: Final[dict[str, frozenset[Permission]]] = {
    "administrator": frozenset(Permission),
    "customer": frozenset({Permission.ORDERS_SUBMIT}),
    "manager": frozenset({Permission.ORDERS_READ_ALL, Permission.TELEMETRY_READ}),
    "operator": frozenset({Permission.TELEMETRY_READ}),
}
"""By the name of the role. A user may have several; the permissions add up."""


def permissions_of(roles: tuple[str, ...]) -> frozenset[Permission]:
    """What these roles together allow; a role that is not known any more allows nothing."""
    return frozenset[Permission]().union(*(ROLES.get(role, frozenset()) for role in roles))
