"""The plain parser: one record at a time, as a careful person would read it.

It defines what is right. The vectorised parser (`parser.columns`) must agree with it on any bytes, and
hands it the few records that it doesn't understand at a glance. It is also the baseline that the
vectorised one is measured against.

A number is plain ASCII decimal: optional sign, digits with at most one point among, before or after
them, optional exponent. Python's own `float` takes more than that (underscores, other scripts' digits,
`nan`, `infinity`), so the form is checked first.
"""

import math
import re
from collections.abc import Container, Iterator

from parser.settings import FIELDS, Rules
from parser.verdicts import NOT_WHOLE, Accepted, Empty, Reason, Refused, Verdict

MAX_DEVICE_ID_BYTES = 64

_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DEVICE_ID = re.compile(rb"[\x20-\x7e]{1,%d}" % MAX_DEVICE_ID_BYTES)
_NOTHING = Empty()


def parse_record(raw: bytes, rules: Rules, devices: Container[str] | None = None) -> Verdict:
    """Read one record, its delimiter taken off.

    `devices` are those that its sender may send for; None where that isn't asked.
    """
    verdict = _parse(raw, rules)
    if devices is not None and isinstance(verdict, Accepted) and verdict.device_id not in devices:
        return Refused(Reason.WRONG_IDENTITY, "device_id", verdict.device_id)
    return verdict


def _parse(raw: bytes, rules: Rules) -> Verdict:
    record = raw.lstrip(rules.around_records)
    if len(record) > rules.max_record_bytes:
        return refuse(Reason.OVERSIZE, record, rules)
    record = record.rstrip(rules.around_records)
    if not record:
        return _NOTHING
    if record.translate(None, rules.breaks) != record:
        return refuse(Reason.CONTROL, raw, rules)
    fields = [field.strip(rules.around_fields) for field in record.split(rules.field_delimiter)]
    if len(fields) != len(FIELDS):
        return refuse(Reason.FIELDS, raw, rules)
    return _read_fields(dict(zip(rules.record.fields, fields, strict=True)), rules)


def refuse(reason: Reason, raw: bytes, rules: Rules) -> Refused:
    """Refuse a record as a whole, saying whose it seems to be.

    Of one that was cut off only fields that are whole count, and only those within the limit, as it may
    have come in one piece or in many.
    """
    begun = raw.lstrip(rules.around_records)[: rules.max_record_bytes]
    fields = begun.rstrip(rules.around_records).split(rules.field_delimiter)
    if reason in NOT_WHOLE:
        fields.pop()
    place = rules.record.fields.index("device_id")
    device = read_device_id(fields[place].strip(rules.around_fields)) if place < len(fields) else None
    return Refused(reason, None, device)


def read_device_id(field: bytes) -> str | None:
    """The device's name, or None where the bytes can't be one."""
    return field.decode("ascii") if _DEVICE_ID.fullmatch(field) else None


def _read_fields(fields: dict[str, bytes], rules: Rules) -> Accepted | Refused:
    device_id = read_device_id(fields["device_id"])
    values: dict[str, float] = {}
    for name, field in fields.items():
        if name == "device_id":
            if device_id is None:
                return Refused(Reason.DEVICE_ID, name)
        elif _NUMBER.fullmatch(field) is None:
            return Refused(Reason.NUMBER, name, device_id)
        else:
            values[name] = float(field)
            if math.isinf(values[name]):
                return Refused(Reason.OVERFLOW, name, device_id)
    for name, (low, high) in rules.record.limits.items():
        if not low <= values[name] <= high:
            return Refused(Reason.IMPLAUSIBLE, name, device_id)
    assert device_id is not None  # noqa: S101  # `fields` holds all six names: settings see to it
    temperature, speed, flow, power, voltage = (values[name] for name in FIELDS[1:])
    return Accepted(device_id, (temperature, speed, flow, power, voltage))


def parse_stream(stream: bytes, rules: Rules) -> Iterator[Verdict]:
    """Read a whole stream that ended with a clean close: one verdict for each record number it takes."""
    *records, tail = stream.split(rules.delimiter)
    for raw in records:
        yield parse_record(raw, rules)
    last = parse_record(tail, rules)
    if not isinstance(last, Empty):
        yield last
