"""What an account can't do or may not: whose fault it is, and whether trying again helps."""

from typing import Final

INVALID_CREDENTIALS: Final = "Invalid credentials"
"""All that a caller hears of a login that failed: not whether there is such a user."""


class AccountError(Exception):
    """Something that could not be done with an account."""

    retriable = False
    """Whether the same call can succeed later without anybody changing the call."""


class NotAuthenticatedError(AccountError):
    """Nobody knows who the caller is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LockedOutError(AccountError):
    """Too many wrong passwords, for this name or from this address."""

    retriable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s
        """After so many seconds one more is looked at."""


class TooManyLoginsError(AccountError):
    """As many passwords as may wait are waiting to be looked at."""

    retriable = True


class RuleError(AccountError):
    """A name, a password, a role or another value can't be what was given; the message says what can."""


class NameTakenError(AccountError):
    """There is a user of this name already."""


class NoSuchUserError(AccountError):
    """There is no user of this name."""


class NoSuchTokenError(AccountError):
    """There is no token with this id."""
