"""Bytes as machines might send them: mostly good records, and near misses of every kind known."""

from itertools import pairwise

from hypothesis import strategies as st

from parser.framing import Ending
from parser.settings import FIELDS, VALUES, RecordSettings, Rules

RECORD_DELIMITERS = "##### \t\n\r\0;|,\"'\x01\x7f"
FIELD_DELIMITERS = ",,,,, \t;|#\"'\\"

ENDS_OF_STREAM = [ending for ending in Ending if ending not in {Ending.DELIMITER, Ending.OVERSIZE}]

PLAIN_NUMBERS = [b"0", b"7", b"35.2", b"8000", b"-1.5", b"380", b"0.1", b"123456789.123456789"]

ODD_NUMBERS = [
    *(b"1.", b".5", b"+1", b"-0", b"-0.0", b"+.5", b"-1.", b"007", b"1e3", b"1E+3", b"1e-3", b".5e1"),
    *(b"1e308", b"1.7976931348623157e308", b"1e400", b"-1e400", b"1e-400", b"-1e-400", b"5e-324"),
    *(b"2.4e-324", b"1e99999999999999999999", b"1e-99999999999999999999", b"0e99999999999999999999"),
    *(b"9007199254740993", b"0.1000000000000000055511151231257827", b"2.2250738585072011e-308"),
    *(b"1" * 80, b"1" * 81, b"-" + b"1" * 79, b"0." + b"1" * 90, b"9" * 310, b"0" * 120 + b"1"),
    *(b"0." + b"0" * 330 + b"1", b"1" * 255, b"1" * 256, b"1" * 257),
]

WRONG_NUMBERS = [
    *(b"", b".", b"+", b"-", b"e", b"e5", b"1e", b"1e+", b"1e5.0", b"--1", b"+-1", b"-+1", b"++1", b"1-"),
    *(b"1+1", b"1.2.3", b"..", b".e5", b"+.", b"-.e1", b"1 2", b"- 1", b"1_000", b"_1", b"0x1F", b"0x1p3"),
    *(b"1f", b"1d5", b"1L", b"0b1", b"1,5", b"1'000", b'"1"', b"'1'", b"1%", b"$1", b"(1)"),
    *(b"nan", b"NaN", b"-nan", b"nan(1)", b"inf", b"-inf", b"+inf", b"Infinity", b"-infinity", b"INF"),
    *(b"NA", b"N/A", b"#N/A", b"NULL", b"null", b"None", b"true", b"false", b"1970-01-01", b"12:30"),
    *("\u0661\u0662".encode(), "\u2212\u0031".encode(), "\uff11".encode(), "1\u00a0".encode(), b"1\xa0"),
    *(b"1\0", b"\0", b"1\n2", b"1\r", b"\x0b1", b"1\x0c", b"\x1f1", b"1\x85", b"\xff", b"\xef\xbb\xbf1"),
    *(b"." * 85, b"." * 86, b"." * 256, b"." * 257, b"-" * 86, b"-" * 256, b"e" * 171, b"1" + b"." * 256),
]

GOOD_DEVICES = [b"E0001", b"E0002", b"M", b"line-3/press_07", b"d" * 64, b"~", b"!", b"a b"]

ODD_DEVICES = [
    *(b"", b"d" * 65, b" " * 64 + b"E1", b"E1" + b" " * 70, b"two  words", b'"E1"', b'"', b'""', b"'E1'"),
    *(
        b"E\\1",
        b"\\",
        b"\xef\xbb\xbfE1",
        b"E\xff1",
        b"\xc3\x28",
        "Fr\u00e4se".encode(),
        b"E\x001",
        b"E\x1b[m",
    ),
    *(
        b"E\x7f",
        b"nan",
        b"NULL",
        b"0",
        b"d" * 63 + b" ",
        b" " + b"d" * 64,
        b"E1\n",
        b"\rE1",
        b"\0E1",
        b"E\t1",
    ),
]

AROUND = [
    b" ",
    b"  ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\n\r",
    b"\r\n\r\n",
    b" \n ",
    b"\0\0\r\n",
    b"\xef\xbb\xbf",
]

GARBAGE = [
    *(
        b"",
        b",",
        b",,,,,",
        b"E1",
        b"1,2,3,4,5,6",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0",
        b"\xff" * 7,
    ),
    *(b"E1,1,2,3,4", b"E1,1,2,3,4,5,", b",1,2,3,4,5", b"a" * 600, b" " * 600, b"\n" * 40, b"E1,1,2\n,3,4,5"),
    *(b"\xef\xbb\xbf", b"{}", b"E1;1;2;3;4;5", b"E1,1,2,3,4,5" + b" " * 510, b"\r\n" * 256 + b"E1,1,2,3,4,5"),
]

pieces_of_garbage = st.sampled_from(GARBAGE) | st.binary(max_size=20)
endings = st.sampled_from(ENDS_OF_STREAM)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Settings of every kind, the usual ones most often."""
    if draw(st.integers(0, 3)):
        return Rules(max_record_bytes=draw(st.sampled_from([512, 512, 12, 13, 14, 40])))
    delimiter = draw(st.sampled_from(RECORD_DELIMITERS))
    field_delimiter = draw(st.sampled_from([c for c in FIELD_DELIMITERS if c != delimiter]))
    record = RecordSettings(
        delimiter=delimiter,
        field_delimiter=field_delimiter,
        fields=tuple(draw(st.permutations(FIELDS))),
        limits=draw(st.dictionaries(st.sampled_from(VALUES), _limits, max_size=2)),
    )
    return Rules(record=record, max_record_bytes=draw(st.sampled_from([1, 4, 12, 25, 40, 64, 512, 2000])))


_limits = st.sampled_from([(0.0, 100.0), (0.0, 0.0), (7.0, 7.0), (float("-inf"), 1e4), (-1.5, float("inf"))])


def _often(common: list[bytes], rare: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.integers(0, 7).flatmap(lambda dice: st.sampled_from(common if dice else rare))


_number = _often(PLAIN_NUMBERS, ODD_NUMBERS + WRONG_NUMBERS)
_device = _often(GOOD_DEVICES, ODD_DEVICES)
_around = _often([b""], AROUND)


@st.composite
def records(draw: st.DrawFn, rules: Rules) -> bytes:
    """One record without its delimiter: good, a near miss, or garbage."""
    if not draw(st.integers(0, 9)):
        return draw(pieces_of_garbage)
    fields = [draw(_device if name == "device_id" else _number) for name in rules.record.fields]
    if not draw(st.integers(0, 3)):
        place = draw(st.integers(0, 5))
        fields[place] = draw(_around) + fields[place] + draw(_around)
    if not draw(st.integers(0, 9)):
        fields = draw(st.sampled_from([fields[:-1], fields[1:], [*fields, b""], [*fields, b"1"], fields * 2]))
    return draw(_around) + rules.field_delimiter.join(fields) + draw(_around)


@st.composite
def streams(draw: st.DrawFn, rules: Rules, *, max_records: int = 6) -> bytes:
    """Some records with their delimiters, and now and then something behind the last one."""
    whole = draw(st.lists(records(rules), max_size=max_records))
    tail = draw(st.one_of(st.just(b""), records(rules), pieces_of_garbage))
    return rules.delimiter.join([*whole, tail])


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in the pieces that cuts at these places make of it."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]
