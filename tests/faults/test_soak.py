"""Load for hours: what a server holds stays as it is, and each record is there."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.faults.figures import Figures
from tests.faults.harness import Server
from tests.faults.load import Load, carry, judge
from tests.faults.samples import Samples
from tests.faults.visitors import ALLOWED, Visitors

pytestmark = pytest.mark.fault


@pytest.mark.soak
def test_a_long_load_leaves_memory_descriptors_and_logs_flat(
    server: Server, figures: Figures, pytestconfig: pytest.Config, *, long_form: bool
) -> None:
    """50 000 records/s for two hours; for some seconds, and at a tenth of that, in the short form.

    Beside it others come and go, four a second, and the configuration is read anew once a minute.
    Flat is judged in the long form only: a server that has just started still grows.
    """
    load = Load(5_000, 3.0, 0.5)
    if long_form:
        load = Load(50_000, float(pytestconfig.getoption("--soak-seconds")), 5.0)
    server.configure(ALLOWED)
    server.start()
    pace = {"every_s": 0.25, "reload_every_s": 60.0} if long_form else {"every_s": 0.1, "reload_every_s": 1.0}
    samples = carry(server, load, figures, keeper(pytestconfig), Visitors(server, **pace))
    if long_form:
        judge(samples, figures)


def keeper(config: pytest.Config) -> Callable[[Samples], None]:
    """Writes the samples beside the table, where one is made."""
    folder: Path | None = config.getoption("--table", default=None)

    def keep(samples: Samples) -> None:
        if folder is not None:
            (folder / "soak.json").write_bytes(msgspec.json.encode(samples))

    return keep
