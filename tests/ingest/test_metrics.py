"""Figures of the way in: a reason is there before it has happened, so that its first burst is an increase."""

from collections.abc import Iterable

import pytest

from ingest.metrics import IngestMetrics
from ingest.reasons import Limit, WhyClosed, WhyRefused


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("headrace_connections_closed", "why", WhyClosed),
        ("headrace_connections_refused", "why", WhyRefused),
        ("headrace_throttles", "limit", Limit),
    ],
)
def test_every_reason_is_counted_from_zero(name: str, label: str, values: Iterable[str]) -> None:
    """Each is shown as 0 when nothing has come yet, under the name that the log and the tables have."""
    [metric] = [each for each in IngestMetrics().registry.collect() if each.name == name]
    shown = {each.labels[label]: each.value for each in metric.samples if each.name.endswith("_total")}
    assert shown == {str(value): 0.0 for value in values}
