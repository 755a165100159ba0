"""Slowing down who guesses passwords, by name and by address. Pure: time comes in.

An attempt counts as failed until it is known to be good, so many at once gain nothing. Each lockout's time
forgives one failure; at the limit that time begins anew. Over any time, then, somebody gets to guess no more
than the limit and one more for each lockout. Ten times as many may fail from one address, behind which
there may be a whole plant; of IPv6 the first half counts, as the other is the caller's to choose.

What is remembered is bounded: whoever was not heard of for longest makes room.
"""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

_MOST: Final = 10_000
_OF_ADDRESS: Final = 10
"""So many times the failures of a name."""

_LONGEST_ADDRESS: Final = 64
_HOST_BITS: Final = 64


class Throttle:
    """Failures by name and by address; times in milliseconds of any clock."""

    def __init__(self, failures: int, lockout_ms: int, *, most: int = _MOST) -> None:
        self._names = _Failures(failures, lockout_ms, most)
        self._addresses = _Failures(failures * _OF_ADDRESS, lockout_ms, most)

    def attempt(self, name: str, address: str, now: int) -> int:
        """Count an attempt as failed and say 0; where it may not be made, for how many milliseconds not.

        An empty name stands for what can't be one: only its address counts.
        """
        network = network_of(address)
        wait_ms = max(self._names.wait_ms(name, now), self._addresses.wait_ms(network, now))
        if not wait_ms:
            if name:
                self._names.add(name, now)
            self._addresses.add(network, now)
        return wait_ms

    def succeeded(self, name: str, address: str) -> None:
        """The attempt was good: nothing is held against the name any more."""
        self._names.clear(name)
        self._addresses.take_back(network_of(address))

    def withdrawn(self, name: str, address: str) -> None:
        """The password was never looked at."""
        self._names.take_back(name)
        self._addresses.take_back(network_of(address))

    def __len__(self) -> int:
        """How many names and addresses are remembered."""
        return len(self._names) + len(self._addresses)


class _Count(NamedTuple):
    failures: int
    since: int
    """From here on time forgives."""


class _Failures:
    def __init__(self, limit: int, lockout_ms: int, most: int) -> None:
        self._limit = limit
        self._lockout_ms = lockout_ms
        self._most = most
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def wait_ms(self, key: str, now: int) -> int:
        count = self._forgiven(key, now)
        return 0 if count.failures < self._limit else self._lockout_ms - (now - count.since)

    def add(self, key: str, now: int) -> None:
        count = self._forgiven(key, now)
        failures = count.failures + 1
        begins = failures in (1, self._limit)
        self._counts[key] = _Count(failures, now if begins else count.since)
        self._counts.move_to_end(key)
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)

    def take_back(self, key: str) -> None:
        count = self._counts.get(key)
        if count is not None:
            self._counts[key] = count._replace(failures=max(0, count.failures - 1))

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _forgiven(self, key: str, now: int) -> _Count:
        """What is left of a count by now; a clock that was set back makes nobody wait for longer."""
        count = self._counts.get(key)
        if count is None:
            return _Count(0, now)
        since = min(count.since, now)
        steps = (now - since) // self._lockout_ms
        count = _Count(max(0, count.failures - steps), since + steps * self._lockout_ms)
        self._counts[key] = count
        return count


def network_of(address: str) -> str:
    """What one caller can't change at will of an address."""
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:_LONGEST_ADDRESS]
    if not isinstance(known, IPv6Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Address(int(known) >> _HOST_BITS << _HOST_BITS))
