"""What a test can't do without."""

import os

import pytest


def need(available: bool, missing: str) -> None:  # noqa: FBT001  # reads like an assertion
    """Skip a test that can't be done here; where everything has to be there, fail instead."""
    if not available and os.environ.get("CI"):
        pytest.fail(missing)
    if not available:
        pytest.skip(missing)
