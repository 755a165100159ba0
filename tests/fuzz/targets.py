"""What can be fuzzed. A target tries one input, and raises whatever is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import journal_target, parser_target

CORPUS: Final = Path(__file__).with_name("corpus")
"""For each target a folder of inputs, of which each reaches code that no other one does."""


class Target(NamedTuple):
    """One of them."""

    run: Callable[[bytes], int]
    """Try an input; how many bytes of it, or of what it stands for, the product was given."""

    dictionary: Callable[[], list[bytes]]
    longest: int
    """Bytes of an input."""


TARGETS: Final = {
    "parser": Target(parser_target.run, parser_target.dictionary, parser_target.LONGEST),
    "journal": Target(journal_target.run, journal_target.dictionary, journal_target.LONGEST),
}
