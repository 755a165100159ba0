"""What all tests share: how hard hypothesis tries. `HYPOTHESIS_PROFILE=ci` repeats the same examples."""

import os

from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

pytest_plugins = [
    "tests.faults.cases",
    "tests.support.cassandra",
    "tests.support.certificates",
    "tests.support.side_by_side",
]
