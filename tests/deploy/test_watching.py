"""Prometheus and Grafana: every figure they ask for exists, and every trouble raises its alert."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from headrace.config import load_config
from headrace.workers.figures import WorkerMetrics
from ingest.claims import Claims
from ingest.metrics import IngestMetrics
from orders.logs.metrics import LogMetrics
from tests.deploy.files import DEPLOY, ROOT, compose, passes
from web.places import HttpMetrics

PROMTOOL = "apt-get install prometheus"


class Rule(msgspec.Struct, rename={"wait": "for"}):
    """An alert of alerts.yml."""

    alert: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    wait: str = "0m"


class Group(msgspec.Struct):
    """Some of them."""

    rules: list[Rule]


class Rules(msgspec.Struct):
    """alerts.yml."""

    groups: list[Group]


class Target(msgspec.Struct):
    """A query of a panel."""

    expr: str


class Panel(msgspec.Struct):
    """A panel of the dashboard, or the title of a row of them."""

    id: int
    type: str
    title: str
    description: str = ""
    datasource: dict[str, str] = {}
    targets: list[Target] = []


class Dashboard(msgspec.Struct):
    """headrace.json."""

    panels: list[Panel]


class Source(msgspec.Struct):
    """Where Grafana gets its figures."""

    url: str


class Sources(msgspec.Struct):
    """The provisioned data sources."""

    datasources: list[Source]


RULES = [
    rule
    for group in msgspec.yaml.decode((DEPLOY / "alerts.yml").read_bytes(), type=Rules).groups
    for rule in group.rules
]
PANELS = msgspec.json.decode(
    (DEPLOY / "grafana" / "dashboards" / "headrace.json").read_bytes(), type=Dashboard
).panels
GRAPHS = [panel for panel in PANELS if panel.type != "row"]


def series() -> Iterator[str]:
    """The names under which Prometheus sees our metrics."""
    registry = CollectorRegistry()
    rooms = (
        IngestMetrics(),
        Claims(registry),
        LogMetrics(registry),
        WorkerMetrics(registry),
        HttpMetrics(registry),
    )
    for instrument in [value for metrics in rooms for value in vars(metrics).values()]:
        kind = getattr(instrument, "_type", None)
        if kind == "histogram":
            yield from (f"{instrument._name}_{part}" for part in ("bucket", "sum", "count"))
        elif kind is not None:
            yield instrument._name + ("_total" if kind == "counter" else "")


def ours(text: str) -> set[str]:
    """The metrics of ours that a text names."""
    return set(re.findall(r"\bheadrace_\w+", text))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.alert)
def test_an_alert_asks_for_what_there_is(rule: Rule) -> None:
    """And says how urgent it is, and what has happened."""
    assert ours(rule.expr) <= set(series())
    assert ours(rule.expr) or "up{" in rule.expr
    assert rule.labels["severity"] in ("page", "warn")
    assert rule.annotations["summary"]


def test_everything_to_alert_on_has_its_rule() -> None:
    """Every metric that operators are told to watch stands in an alert."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    advice = re.findall(r"^### What to alert on\b.*?$(.*?)^##", page, re.MULTILINE | re.DOTALL)
    watched = {re.sub(r"_bucket$", "", name) for rule in RULES for name in ours(rule.expr)}
    assert len(advice) == 2, "for every store, and for Cassandra"
    for table in advice:
        assert ours(table)
        assert ours(table) <= watched


def test_the_alert_on_a_full_journal_knows_how_large_it_is() -> None:
    """Prometheus isn't told `max_bytes`, so the rule holds half of it."""
    (rule,) = [rule for rule in RULES if "headrace_journal_bytes" in rule.expr]
    assert rule.expr.split()[-1] == str(load_config(DEPLOY / "headrace.toml").journal.max_bytes // 2)


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel.title)
def test_a_panel_shows_what_there_is(panel: Panel) -> None:
    """With its unit in the title, an explanation, and the data source that was chosen above."""
    asked = {name for target in panel.targets for name in ours(target.expr)}
    assert asked <= set(series())
    assert asked or "ALERTS" in panel.targets[0].expr
    assert re.search(r"\(.+\)$", panel.title), panel.title
    assert panel.description
    assert panel.datasource == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_have_numbers_of_their_own() -> None:
    """Grafana tells them apart by these."""
    assert len({panel.id for panel in PANELS}) == len(PANELS)


def test_grafana_asks_the_prometheus_of_the_compose_file() -> None:
    """And finds its dashboards where they are mounted."""
    folder = DEPLOY / "grafana" / "provisioning"
    sources = msgspec.yaml.decode((folder / "datasources" / "prometheus.yml").read_bytes(), type=Sources)
    assert [source.url for source in sources.datasources] == ["http://prometheus:9090"]
    assert {"prometheus", "headrace"} <= compose().services.keys()
    provider = (folder / "dashboards" / "headrace.yml").read_text(encoding="utf-8")
    mounts = [mount.split(":") for mount in compose().services["grafana"].volumes]
    (target,) = [target for source, target, *_ in mounts if source == "./grafana/dashboards"]
    assert f"path: {target}" in provider


def test_prometheus_accepts_its_configuration() -> None:
    """With the rules that it names."""
    passes("promtool", "check", "config", DEPLOY / "prometheus.yml", install=PROMTOOL)


def test_each_trouble_raises_its_alert_and_nothing_else_does() -> None:
    """Told in series of figures, which promtool plays to the rules."""
    story = Path(__file__).with_name("alerts.test.yml")
    passes("promtool", "test", "rules", story, install=PROMTOOL)
