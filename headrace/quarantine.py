"""`headrace quarantine`: look at rejects, and judge them again after the settings were mended."""

from collections import Counter
from collections.abc import Iterator

from parser.reference import parse_record
from parser.settings import Rules
from parser.verdicts import Accepted
from storage.base import Quarantine, Rejected

_PAGE = 500


def rejects(quarantine: Quarantine) -> Iterator[Rejected]:
    """All rejects that may be judged again, the oldest first."""
    after = -1
    while page := quarantine.page(after, _PAGE):
        yield from page
        after = page[-1].seq


def replay(quarantine: Quarantine, rules: Rules) -> Counter[str]:
    """Judge all rejects by these rules, and move those that are good now; how many of each outcome.

    A moved record keeps its seq and its time. Doing it twice changes nothing.
    """
    outcomes: Counter[str] = Counter()
    for rejected in rejects(quarantine):
        verdict = parse_record(rejected.raw, rules)
        if isinstance(verdict, Accepted):
            moved = quarantine.accept(rejected, verdict)
            outcomes["stored" if moved else "gone"] += 1
        else:
            outcomes["still rejected"] += 1
    return outcomes
