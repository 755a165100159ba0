"""The docs name what there is: every key, every metric, every reason, every page that they link to."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from headrace.config import Config
from headrace.reload import WHILE_RUNNING
from headrace.workers.figures import WorkerMetrics
from ingest.claims import Claims
from ingest.metrics import IngestMetrics
from ingest.reasons import Limit, WhyClosed, WhyRefused
from orders.logs.metrics import LogMetrics
from orders.metrics import OrderMetrics
from storage.base import SERVER_LOST
from web.places import HttpMetrics

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BEHAVIOR = (ROOT / "docs" / "behavior.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "config.toml").read_text(encoding="utf-8")
IN_THE_TABLES = {*WhyClosed, SERVER_LOST}
"""Why connections ended, as `connections` says it."""

PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")])


def sections(kind: type[msgspec.Struct], name: str = "") -> Iterator[tuple[str, str, object]]:
    """Section, key and default of every key, sections within sections included."""
    for field in msgspec.structs.fields(kind):
        inner = [field.type, *get_args(field.type)]
        section = next((t for t in inner if isinstance(t, type) and issubclass(t, msgspec.Struct)), None)
        if section is not None:
            yield from sections(section, f"{name}.{field.name}".lstrip("."))
        else:
            yield name, field.name, field.default


KEYS = list(sections(Config))


def operations_section(name: str) -> str:
    """What docs/operations.md says about a section."""
    found = re.search(rf"^### `\[{re.escape(name)}\]`$(.*?)^##", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/operations.md has no heading for [{name}]"
    return found[1]


def example_section(name: str) -> str:
    """The lines of config.toml that belong to a section, its inner ones not."""
    found = re.search(rf"^\[{re.escape(name)}\](.*?)(?=^\[|\Z)", EXAMPLE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"config.toml has no [{name}]"
    return found[1]


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in KEYS])
def test_every_key_is_explained_to_operators(section: str, key: str) -> None:
    """Under the heading of its section, in a row of the table."""
    assert re.search(rf"^\| `{key}` \|", operations_section(section), re.MULTILINE)


@pytest.mark.parametrize(("section", "key", "default"), KEYS)
def test_the_documented_default_is_the_real_one(section: str, key: str, default: object) -> None:
    """Written as in the configuration file; one that can't be is described in words."""
    row = re.search(rf"^\| `{key}` \| (.*?) \|", operations_section(section), re.MULTILINE)
    assert row is not None
    if row[1].startswith("`"):
        assert tomllib.loads(f"default = {row[1].strip('`')}")["default"] == msgspec.json.decode(
            msgspec.json.encode(default)
        )
    else:
        assert default is None or not isinstance(default, int | float | str)


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in KEYS])
def test_every_key_stands_in_the_example(section: str, key: str) -> None:
    """Those without a default value stand there as comments."""
    lines = example_section(section)
    assert re.search(rf"^(?:# )?{key} = |^# \[{re.escape(section)}\.{key}\]", lines, re.MULTILINE)


def test_operators_read_of_no_key_that_there_is_not() -> None:
    """No row of a section's table is about something that is refused."""
    for section in {name for name, _, _ in KEYS}:
        documented = set(re.findall(r"^\| `(\w+)` \|", operations_section(section), re.MULTILINE))
        assert documented == {key for name, key, _ in KEYS if name == section}


def test_operators_read_which_keys_count_while_it_runs() -> None:
    """Exactly those that do."""
    found = re.search(
        r"^## Changing the configuration while running$(.*?)^## ", OPERATIONS, re.MULTILINE | re.DOTALL
    )
    assert found is not None
    rows = re.findall(r"^\| `\[([\w.]+)\]` \| `(\w+)` \|", found[1], re.MULTILINE)
    assert sorted(f"{section}.{key}" for section, key in rows) == sorted(WHILE_RUNNING)


def test_every_metric_is_explained_with_its_labels() -> None:
    """By the name under which Prometheus sees it; and no other is."""
    registry = CollectorRegistry()
    rooms = (
        IngestMetrics(),
        Claims(registry),
        LogMetrics(registry),
        OrderMetrics(registry),
        WorkerMetrics(registry),
        HttpMetrics(registry),
    )
    known = [value for metrics in rooms for value in vars(metrics).values()]
    instruments = [value for value in known if hasattr(value, "_labelnames")]
    real = {
        (instrument._name + ("_total" if instrument._type == "counter" else ""), instrument._labelnames)
        for instrument in instruments
    }
    rows = re.findall(r"^\| `(headrace_\w+)` \| ([^|]*)\|", OPERATIONS, re.MULTILINE)
    assert real
    assert {(name, tuple(re.findall(r"`(\w+)`", labels))) for name, labels in rows} == real


@pytest.mark.parametrize(
    ("metric", "reasons"),
    [("headrace_connections_closed_total", WhyClosed), ("headrace_connections_refused_total", WhyRefused)],
)
def test_operators_read_of_every_reason_that_is_counted(metric: str, reasons: Iterable[str]) -> None:
    """And of no other, in the row of the counter."""
    row = re.search(rf"^\| `{metric}` \| `why` \| (.*)$", OPERATIONS, re.MULTILINE)
    assert row is not None
    assert sorted(re.findall(r"`(\w+)`", row[1])) == sorted(reasons)


def test_what_slows_a_connection_down_is_a_key() -> None:
    """By its name in the configuration."""
    assert set(Limit) <= {key for section, key, _ in KEYS if section == "ingest"}


def test_why_a_connection_ended_is_explained() -> None:
    """Every reason, and no other: in its table, and in that of what becomes of the last record."""
    told = re.findall(r"^\| `(\w+)` \|", behavior_table("### Why a connection ended"), re.MULTILINE)
    assert sorted(told) == sorted(IN_THE_TABLES)
    columns = re.findall(r"([^|]*)\|$", behavior_table("## The end of a stream"), re.MULTILINE)
    assert {why for column in columns for why in re.findall(r"`(\w+)`", column)} == IN_THE_TABLES


def behavior_table(heading: str) -> str:
    """The rows of the first table beneath a heading of docs/behavior.md."""
    found = re.search(rf"^{heading}$.*?^[|-]+$(.*?)^$", BEHAVIOR, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def test_the_page_of_connections_has_words_for_every_reason() -> None:
    """And for no other."""
    script = (ROOT / "web" / "static" / "connections.js").read_text(encoding="utf-8")
    words = re.search(r"^const WHY = \{$(.*?)^\};", script, re.MULTILINE | re.DOTALL)
    assert words is not None
    assert set(re.findall(r"^  (\w+): \"", words[1], re.MULTILINE)) == IN_THE_TABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """To a file of the tree, and to a heading of it where they name one."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The names under which GitHub shows a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
