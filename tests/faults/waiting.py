"""Waiting for something, with a deadline, and what a test can't do without."""

import os
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


def need(available: bool, missing: str) -> None:  # noqa: FBT001  # reads like an assertion
    """Skip a test that can't be done here; where everything has to be there, fail instead."""
    if not available and os.environ.get("CI"):
        pytest.fail(missing)
    if not available:
        pytest.skip(missing)
