"""What a customer can order.

The names of fields and options are those of the order page; the supplier's product list has the same.
"""

from typing import Annotated, Any, Final

import msgspec

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "base": ("Base 40mm", "Base 20mm"),
    "drilling": ("3 second Drilling", "Without Drilling"),
    "cleaning": ("With", "Without"),
    "pressing": ("With", "Without"),
    "inspection": ("Complete", "Without"),
}
"""By field: what may be chosen."""

_SAID: Final = {
    ("drilling", "3 second Drilling"): "Drilling 3s",
    ("drilling", "Without Drilling"): "Without drilling",
    ("inspection", "Complete"): "Complete inspection",
    ("inspection", "Without"): "Without inspection",
    ("cleaning", "With"): "With cleaning",
    ("cleaning", "Without"): "Without cleaning",
    ("pressing", "With"): "With pressing",
    ("pressing", "Without"): "Without pressing",
}


def _one_of(field: str) -> Any:
    """Said in the schema, checked by `orders.checking`: so the answer can say more than a decoder does."""
    return msgspec.Meta(extra_json_schema={"enum": list(OPTIONS[field])})


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is ordered."""

    base: Annotated[str, _one_of("base")]
    amount: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})]
    """Pieces."""

    drilling: Annotated[str, _one_of("drilling")]
    cleaning: Annotated[str, _one_of("cleaning")]
    pressing: Annotated[str, _one_of("pressing")]
    inspection: Annotated[str, _one_of("inspection")]


def described(request: OrderRequest) -> str:
    """The order in words, as the log has it."""
    words = [
        _SAID[field, getattr(request, field)] for field in ("drilling", "inspection", "cleaning", "pressing")
    ]
    return " ".join([str(request.amount), request.base, *words])
