"""What goes to the log: through what, and how much of it.

A wrong password is always said: the throttle lets through no more of them than a log can take. What costs
nothing to refuse, such as a token that is none, is said a bounded number of times a minute, and what was left
out is counted.
"""

from typing import Protocol


class Log(Protocol):
    """What is needed of a structlog logger: a message, and what belongs to it by name."""

    def info(self, message: str, /, **info: str) -> object:
        """Something routine."""
        ...

    def warning(self, message: str, /, **info: str) -> object:
        """Something that should not have been tried."""
        ...
