"""What `check-config` shows, and a start logs."""

from typing import NamedTuple


class Finding(NamedTuple):
    """Something unwise."""

    key: str
    reason: str
    right: str
    """What would be right."""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.key}: {self.reason}; {self.right}"
