"""Who calls, and what they may do: what every route gets to see of an account."""

from typing import Literal

import msgspec

from orders.accounts.base import User
from orders.accounts.rules import NOBODY_IN_PARTICULAR
from orders.permissions import Permission, permissions_of


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A caller."""

    user_id: int
    """The user's; 1 on a server without logins, where everybody is one."""

    name: str
    roles: tuple[str, ...]
    permissions: frozenset[Permission]
    """Of all roles together."""

    via: Literal["session", "token", "open"]
    """How the caller was known."""

    csrf: str | None = None
    """What a form or a script of our pages has to show beside the cookie; only where there is a session."""

    def may(self, permission: Permission) -> bool:
        """Whether the caller has the permission."""
        return permission in self.permissions


def principal_of(user: User, via: Literal["session", "token"], csrf: str | None = None) -> Principal:
    """The caller that is this user."""
    return Principal(
        user_id=user.id,
        name=user.name,
        roles=user.roles,
        permissions=permissions_of(user.roles),
        via=via,
        csrf=csrf,
    )


def open_principal() -> Principal:
    """Whoever calls a server without logins: everything is allowed."""
    return Principal(
        user_id=1, name=NOBODY_IN_PARTICULAR, roles=(), permissions=frozenset(Permission), via="open"
    )
