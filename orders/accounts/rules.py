"""What names, passwords, roles and tokens may be.

The password rule is that of NIST SP 800-63B-4 (3.1.1.2) and OWASP ASVS 5.0 (V6.2): length counts, every
character is allowed, none is demanded, and what everybody tries first is refused.
"""

import re
from typing import Final

from orders.accounts.errors import RuleError
from orders.permissions import ROLES

NOBODY_IN_PARTICULAR: Final = "everybody"
"""Who calls a server without logins; no user has this name."""

SHORTEST: Final = 12
LONGEST: Final = 256
"""Characters of a password."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)
_LABEL_CHARACTERS: Final = 100
_MOST_DAYS: Final = 3_650

_COMMON: Final = frozenset(
    """
    000000000000 111111111111 123123123123 123412341234 123456123456 123456789012 1234567890123
    12345678901234 1234567890123456 123456789123 123456789abc 1234567890ab 1q2w3e4r5t6y 1q2w3e4r5t6y7u
    1qaz2wsx3edc 1qaz2wsx3edc4rfv 1qazxsw23edc a1b2c3d4e5f6 aaaaaaaaaaaa abc123abc123 abcd12345678
    abcdefghijkl abcdefgh1234 administrator administrator1 adminadminadmin admin1234567 admin12345678
    changemechangeme changeme1234 changeme12345 correcthorsebatterystaple defaultpassword headraceheadrace
    headrace1234 iloveyou1234 letmeinletmein letmein12345 manufacturing master123456 motdepasse123
    password12345 password1234 password123456 passwordpassword password!234 password@123 p@ssw0rd1234
    p@ssword1234 passw0rd1234 q1w2e3r4t5y6 qazwsxedcrfv qwerasdfzxcv qwertyqwerty qwerty123456 qwerty1234567
    qwertyuiop12 qwertyuiop123 qwertyuiopas qwertyuiop[] qwertyuiopasdf secret123456 superadministrator
    superpassword trustno1trustno1 welcome12345 welcome123456 zaq12wsxcde3 zaq1zaq1zaq1 zxcvbnmasdfg
    """.split()  # noqa: SIM905  # eighty words in quotes are hard to read
)
"""Those of the usual lists of leaked passwords that are long enough, and our own name."""


def is_name(text: str) -> bool:
    """Whether a user could be called so: 1 to 64 of letters, digits, `_`, `-`, `.` and `@`."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> None:
    """See that a user may be called so.

    Raises:
        RuleError: it may not.
    """
    if not is_name(name):
        raise RuleError("a name is 1 to 64 of the letters A to Z and a to z, digits, _, -, . and @")
    if name == NOBODY_IN_PARTICULAR:
        raise RuleError(f"{name} stands for whoever calls a server without logins; take another name")


def check_password(password: str, name: str) -> None:
    """See that a user of this name may have the password.

    Raises:
        RuleError: it may not; the message does not show it.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise RuleError(f"a password has {SHORTEST} to {LONGEST} characters, this one has {len(password)}")
    if _plain(password) == _plain(name):
        raise RuleError("a password is not the user's name")
    if password.casefold() in _COMMON:
        raise RuleError("this password is one of those that everybody tries first")


def check_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    """The roles, each once and in order.

    Raises:
        RuleError: there is none, or one that is not known.
    """
    known = ", ".join(ROLES)
    if not roles:
        raise RuleError(f"a user has at least one role; known are: {known}")
    for role in roles:
        if role not in ROLES:
            raise RuleError(f"there is no role {role[:64]!r}; known are: {known}")
    return tuple(role for role in ROLES if role in roles)


def check_token(label: str, days: int) -> None:
    """See that a token may be labelled so and live so long.

    Raises:
        RuleError: it may not.
    """
    if not (label.strip() and label.isprintable() and len(label) <= _LABEL_CHARACTERS):
        raise RuleError(f"a label is 1 to {_LABEL_CHARACTERS} printable characters")
    if not 1 <= days <= _MOST_DAYS:
        raise RuleError(f"a token lasts 1 to {_MOST_DAYS} days, not {days}")


def _plain(text: str) -> str:
    """Letters and digits alone, in one case; where there is none, all of it."""
    return "".join(filter(str.isalnum, text)).casefold() or text
