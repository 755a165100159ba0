"""What the plain parser says of a stream, and what a parsed block says, in one shape to be compared.

The expectation is made from the whole stream and knows nothing of chunks: it splits at the delimiter,
asks `parser.reference`, and applies the rules for what follows the last delimiter.
"""

import struct
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from parser.block import Allowance, Block, chunk_table
from parser.framing import CUT_OFF, Chunk, Ending, Framer
from parser.parsed import ParsedBlock
from parser.reference import parse_record, refuse
from parser.settings import Rules
from parser.verdicts import Accepted, Empty, Reason, Refused, Verdict

NODE = 7
FIRST_RECORD = 1 << 40


class Judged(NamedTuple):
    """What became of one record. Floats are their eight bytes, so that -0.0 is not 0.0."""

    what: tuple[str, bytes] | Refused | None
    """Device and values, the refusal, or None for an empty record."""

    offset: int | None = None
    """Of a reject: where it begins in its connection's stream, behind white space if there is much."""

    raw: bytes | None = None
    """Of a reject: its bytes from there, up to the limit."""


def expect(
    stream: bytes, ending: Ending, rules: Rules, devices: Container[str] | None = None
) -> list[Judged]:
    """What each record number of a stream stands for."""
    *records, tail = stream.split(rules.delimiter)
    judged = []
    offset = 0
    for raw in records:
        judged.append(_judge(parse_record(raw, rules, devices), offset, raw, rules))
        offset += len(raw) + 1
    verdict = _judge_tail(tail, ending, rules, devices)
    if not isinstance(verdict, Empty):
        judged.append(_judge(verdict, offset, tail, rules))
    return judged


def _judge_tail(tail: bytes, ending: Ending, rules: Rules, devices: Container[str] | None) -> Verdict:
    verdict = parse_record(tail, rules, devices)
    oversize = isinstance(verdict, Refused) and verdict.reason is Reason.OVERSIZE
    if ending in CUT_OFF and not oversize and not isinstance(verdict, Empty):
        return refuse(Reason.TRUNCATED, tail, rules)
    return verdict


def _judge(verdict: Verdict, offset: int, raw: bytes, rules: Rules) -> Judged:
    match verdict:
        case Accepted(device_id, values):
            return Judged((device_id, struct.pack("5d", *values)))
        case Refused():
            long = len(raw) > rules.max_record_bytes
            begun = raw.lstrip(rules.around_records) if long else raw
            return Judged(verdict, offset + len(raw) - len(begun), begun[: rules.max_record_bytes])
        case _:
            return Judged(None)


def frame(pieces: Iterable[bytes], ending: Ending, rules: Rules) -> list[Chunk]:
    """The chunks of a stream that arrives in these pieces and ends so."""
    framer = Framer(rules)
    chunks = [chunk for piece in pieces for chunk in framer.feed(piece)]
    return chunks + framer.end(ending)


def block_of(
    chunks: Sequence[tuple[int, Chunk]], rules: Rules, allowed: Mapping[int, tuple[str, ...]] | None = None
) -> Block:
    """A block of (connection, chunk) pairs."""
    table, payload = chunk_table(chunks)
    permits = None if allowed is None else tuple(Allowance((c,), devices) for c, devices in allowed.items())
    return Block(1, NODE, FIRST_RECORD, 1_700_000_000_000_000, rules, (), table, payload, permits)


def observe(parsed: ParsedBlock) -> Iterator[tuple[int, Judged]]:
    """Connection and fate of each record of a block, by its number."""
    columns, block = parsed.columns, parsed.block
    fates = [Judged(None)] * block.records
    for row, seq in enumerate(parsed.seqs.tolist()):
        device = columns.devices[columns.codes[row]]
        place = seq - block.seq(0)
        fates[place] = Judged((device, columns.values[:, row].astype("<f8").tobytes()))
    for number, reject in enumerate(columns.rejects):
        assert fates[reject.index].what is None, "a record is a row or a reject"
        fates[reject.index] = Judged(reject.verdict, parsed.stream_offset(number), reject.raw)
    owners = [int(chunk["connection"]) for chunk in block.chunks for _ in range(chunk["records"])]
    return zip(owners, fates, strict=True)


def check(connections: dict[int, list[Chunk]], expected: dict[int, list[Judged]], rules: Rules) -> None:
    """One block of all chunks, those of the connections by turns, says what is expected of each."""
    longest = max((len(chunks) for chunks in connections.values()), default=0)
    turns = [
        (connection, chunks[turn])
        for turn in range(longest)
        for connection, chunks in connections.items()
        if turn < len(chunks)
    ]
    found = ParsedBlock.of(block_of(turns, rules))
    seen: dict[int, list[Judged]] = {connection: [] for connection in expected}
    for connection, judged in observe(found):
        seen[connection].append(judged)
    assert seen == expected
    check_counts(found, connections, expected)


def check_counts(
    parsed: ParsedBlock, connections: dict[int, list[Chunk]], expected: dict[int, list[Judged]]
) -> None:
    """Each connection's tally is what its records came to, and nothing is left over."""
    columns = parsed.columns
    assert len(columns.index) + len(columns.rejects) + parsed.empty == parsed.block.records
    assert set(columns.devices) == {columns.devices[code] for code in columns.codes}
    assert len(set(columns.devices)) == len(columns.devices)
    tallies = {int(row["connection"]): row for row in parsed.tallies}
    assert set(tallies) == {connection for connection, chunks in connections.items() if chunks}
    for connection, tally in tallies.items():
        kinds = Counter(type(judged.what) for judged in expected[connection])
        assert tally["stored"] == kinds[tuple]
        assert tally["empty"] == kinds[type(None)]
        assert tally["stored"] + tally["rejected"] + tally["empty"] == len(expected[connection])
        chunks = connections[connection]
        assert tally["bytes"] == sum(len(c.data) - (c.ending is not Ending.DELIMITER) for c in chunks)
        assert tally["unterminated"] == sum(c.ending is Ending.CLEAN for c in chunks)
