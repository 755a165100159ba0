"""What the gateway's parts need of a logger: structlog's have it, with the rows' columns behind them."""

from typing import Protocol


class Speaker(Protocol):
    """Says what happened: a fixed text, whose doing, and what belongs to it. Never waits, never fails."""

    def info(self, message: str, /, *, user_id: str | None = None, **info: object) -> object:
        """Routine operations and outcomes."""
        ...

    def warning(self, message: str, /, *, user_id: str | None = None, **info: object) -> object:
        """What should not have been tried, or did not work at first."""
        ...

    def error(self, message: str, /, *, user_id: str | None = None, **info: object) -> object:
        """What affects performance or flow."""
        ...
