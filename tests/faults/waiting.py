"""Waiting for something, with a deadline."""

import time
from collections.abc import Callable

import pytest


def wait_until(reached: Callable[[], bool], what: str, seconds: float = 30.0, *, rest: float = 0.02) -> None:
    """Look every `rest` seconds until it is so; fail, saying what was waited for, when the time is over."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain until {what}")
        time.sleep(rest)
