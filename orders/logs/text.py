"""Texts of strangers, made safe to show: in a row, on a terminal, in a file of lines.

What can't be seen is what forges: a line break begins a row of its own, ESC commands a terminal, a bidi
control turns a line around, a zero-width character makes two names look the same. All of them, and only they,
are "not printable" in Unicode's sense, and are written as Python's escapes. So is the backslash: what was
sent can be told from what was escaped.
"""

from typing import Final

MESSAGE_CHARACTERS: Final = 500
VALUE_CHARACTERS: Final = 500
NAME_CHARACTERS: Final = 64
KEYS: Final = 16
"""In additional_info."""

_CUT: Final = "…"


def visible(text: str, limit: int) -> str:
    """The text with everything invisible escaped, in so many characters; `…` at its end where it was cut."""
    if len(text) <= limit and text.isprintable() and "\\" not in text:
        return text
    shown = [_visible(character) for character in text[: limit + 1]]
    if sum(map(len, shown)) <= limit:
        return "".join(shown)
    room = limit - len(_CUT)
    kept = 0
    while room >= len(shown[kept]):
        room -= len(shown[kept])
        kept += 1
    return "".join(shown[:kept]) + _CUT


def _visible(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode()


def text_of(value: object) -> str:
    """Any value as a text, bounded and made visible."""
    return visible(value if isinstance(value, str) else str(value), VALUE_CHARACTERS)


def infos(*sources: dict[str, object]) -> dict[str, str]:
    """Keys and values of all sources as bounded texts; the first `KEYS` of them, the first of equal ones."""
    found: dict[str, str] = {}
    for source in sources:
        for key, value in source.items():
            if len(found) == KEYS:
                return found
            found.setdefault(visible(key, NAME_CHARACTERS), text_of(value))
    return found
