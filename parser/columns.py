"""The vectorised parser: a whole block becomes typed columns in one pass.

Clean text goes straight to pyarrow's CSV reader, which does 8 to 10 million records/s on one core but
refuses the whole text for one bad record. So when it refuses, the text is looked at with numpy
(`parser.suspects`): records that are six fields of plain digits at a glance are kept, all others are cut
out and go one by one to the plain parser, which has the last word on them. What is left can't be
refused. The work is linear in the bytes whatever they are: two readings, one look, and one visit to the
plain parser for each suspect.

Tried and left: string columns with a regular expression as a mask and a cast behind it (a third of the
speed even on clean text), and halving the text until the bad record is found (bad records at random
places make it fall to the speed of the plain parser and below).
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from parser.arrow import BYTE_ORDER_MARK, RefusedTextError, Table, read_csv
from parser.breaks import without_breaks_at_edges
from parser.reference import MAX_DEVICE_ID_BYTES, parse_record, refuse
from parser.settings import VALUES, Rules
from parser.suspects import Spans, find_suspects
from parser.verdicts import Accepted, Reason, Refused

Name = TypeVar("Name", bytes, str)

_PLAIN_NAME: Final = bytes(range(0x21, 0x7F))


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A record that did not become a row."""

    index: int
    """Its place among the records of the block."""

    offset: int
    """Its place in the payload, in bytes."""

    raw: bytes
    """Its bytes, up to the limit of a record's length, without the delimiter."""

    verdict: Refused


@dataclass(frozen=True, slots=True)
class Columns:
    """What a payload says: n rows and the records that are none."""

    index: NDArray[np.int32]
    """Shape (n,), ascending: each row's place among the records of the payload."""

    devices: list[str]
    """The names that occur."""

    codes: NDArray[np.int32]
    """Shape (n,): which of `devices` each row is of."""

    values: NDArray[np.float64]
    """Shape (5, n), in the order of `settings.VALUES`, all finite."""

    rejects: list[Reject]
    """Ascending by place. Records that are neither row nor reject are empty."""

    def part(self, first: int, end: int, begin: int) -> "Columns":
        """The records from `first` to before `end`, as if the payload began with them, at byte `begin`."""
        start, stop = np.searchsorted(self.index, (first, end)).tolist()
        names, codes = _occurring(self.devices, self.codes[start:stop])
        low, high = (bisect_left(self.rejects, place, key=lambda one: one.index) for place in (first, end))
        rejects = [
            Reject(one.index - first, one.offset - begin, one.raw, one.verdict)
            for one in self.rejects[low:high]
        ]
        index = self.index[start:stop] - np.int32(first)
        return Columns(index, names, codes, self.values[:, start:stop], rejects)

    def refuse(self, rows: NDArray[np.intp], rejects: Sequence[Reject]) -> "Columns":
        """Without these rows, by their places among the rows; instead of them there are these rejects."""
        names, codes = _occurring(self.devices, np.delete(self.codes, rows))
        merged = sorted([*self.rejects, *rejects], key=lambda one: one.index)
        values = np.delete(self.values, rows, axis=1)
        return Columns(np.delete(self.index, rows), names, codes, values, merged)


def parse_columns(payload: bytes, rules: Rules, condemned: Mapping[int, Reason]) -> Columns:
    """Read a payload of whole records, each ended by its delimiter.

    `condemned` are records, by place, that are rejects whatever they say.
    """
    spans = Spans.of(payload, rules)
    condemned = _oversize(spans, rules) | dict(condemned)
    text = without_breaks_at_edges(payload, rules)
    squeezed = spans if text is payload else Spans.of(text, rules)
    table = None if condemned else _read_clean(squeezed, rules)
    if table is not None:
        rows, suspects = squeezed.filled, np.empty(0, np.int32)
    else:
        suspects = find_suspects(squeezed, rules, condemned)
        table, rows = _read_rest(squeezed, suspects, rules)
    doubtful = _doubtful_rows(table, rules)
    suspects = np.sort(np.concatenate([suspects, rows[doubtful]]), kind="stable")
    clean = _without_rows(table, rows, doubtful)
    return _judge(clean, suspects, spans, rules, condemned) if suspects.size else clean


def _oversize(spans: Spans, rules: Rules) -> dict[int, Reason]:
    """The records that are too long as they came, white space before them left out."""
    limit = rules.max_record_bytes
    long = np.flatnonzero(spans.lengths > limit)
    return {index: Reason.OVERSIZE for index, _, raw in spans.records(long, rules) if len(raw) > limit}


def _read_clean(spans: Spans, rules: Rules) -> Table | None:
    """The columns of the whole text, or None where the reader refuses it or would misread it."""
    text = spans.text
    if any(byte in text for byte in rules.breaks) or text.startswith(BYTE_ORDER_MARK):
        return None
    separators = np.count_nonzero(np.frombuffer(text, np.uint8) == rules.field_delimiter[0])
    if separators != len(VALUES) * len(spans.filled):
        return None
    try:
        return read_csv(_as_lines(text, rules), rules.record)
    except RefusedTextError:
        return None


def _as_lines(text: bytes, rules: Rules) -> bytes:
    return text if rules.delimiter == b"\n" else text.replace(rules.delimiter, b"\n")


def _read_rest(spans: Spans, suspects: NDArray[np.int32], rules: Rules) -> tuple[Table, NDArray[np.int32]]:
    """The columns of all records but the suspects, and the place of each row among the records."""
    kept = spans.lengths > 0
    kept[suspects] = False
    rows = np.flatnonzero(kept).astype(np.int32)
    if not rows.size:
        return Table.empty(), rows
    return read_csv(_as_lines(spans.without(suspects), rules), rules.record), rows


def _doubtful_rows(table: Table, rules: Rules) -> NDArray[np.intp]:
    """Rows that the reader took and the plain parser has to look at."""
    doubt = ~np.isfinite(table.values).all(axis=0)
    for name, (low, high) in rules.record.limits.items():
        column = table.values[VALUES.index(name)]
        doubt |= ~((column >= low) & (column <= high))
    odd = [code for code, name in enumerate(table.names) if not _is_plain(name)]
    if odd:
        doubt |= np.isin(table.codes, odd)
    return np.flatnonzero(doubt)


def _is_plain(name: bytes) -> bool:
    return 0 < len(name) <= MAX_DEVICE_ID_BYTES and not name.translate(None, _PLAIN_NAME)


def _without_rows(table: Table, rows: NDArray[np.int32], out: NDArray[np.intp]) -> Columns:
    names, codes, values = table.names, table.codes, table.values
    if out.size:
        rows, codes, values = (
            np.delete(rows, out),
            np.delete(codes, out),
            np.delete(values, out, axis=1),
        )
        names, codes = _occurring(names, codes)
    return Columns(rows, [name.decode("ascii") for name in names], codes, values, [])


def _occurring(names: list[Name], codes: NDArray[np.int32]) -> tuple[list[Name], NDArray[np.int32]]:
    """Only those of the names that have a row, and the codes to go with them."""
    occurs = np.bincount(codes, minlength=len(names)) > 0
    renumbered = (np.cumsum(occurs) - 1).astype(np.int32)
    return list(compress(names, occurs.tolist())), renumbered[codes]


def _judge(
    clean: Columns,
    suspects: NDArray[np.int32],
    spans: Spans,
    rules: Rules,
    condemned: Mapping[int, Reason],
) -> Columns:
    """Ask the plain parser about each suspect, and put in order what comes of it."""
    accepted: list[Accepted] = []
    places: list[int] = []
    rejects: list[Reject] = []
    for index, start, raw in spans.records(suspects, rules):
        reason = condemned.get(index)
        verdict = parse_record(raw, rules) if reason is None else refuse(reason, raw, rules)
        if isinstance(verdict, Accepted):
            accepted.append(verdict)
            places.append(index)
        elif isinstance(verdict, Refused):
            rejects.append(Reject(index, start, raw[: rules.max_record_bytes], verdict))
    merged = _merge(clean, places, accepted) if accepted else clean
    return Columns(merged.index, merged.devices, merged.codes, merged.values, rejects)


def _merge(clean: Columns, places: Sequence[int], accepted: Sequence[Accepted]) -> Columns:
    devices = list(clean.devices)
    known = {name: code for code, name in enumerate(devices)}
    codes = []
    for record in accepted:
        code = known.setdefault(record.device_id, len(devices))
        if code == len(devices):
            devices.append(record.device_id)
        codes.append(code)
    index = np.concatenate([clean.index, np.array(places, dtype=np.int32)])
    order = np.argsort(index, kind="stable")
    values = np.concatenate([clean.values, np.array([a.values for a in accepted]).T], axis=1)
    return Columns(
        index[order],
        devices,
        np.concatenate([clean.codes, np.array(codes, dtype=np.int32)])[order],
        values[:, order],
        [],
    )
