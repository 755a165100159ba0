"""What can be ordered, and what is said of what can't."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.checking import check_order
from orders.errors import InvalidOrderError
from orders.request import OPTIONS, OrderRequest, described
from tests.orders.book.building import request

MOST = 1_000

requests = st.builds(
    OrderRequest,
    amount=st.integers(-5, MOST + 5),
    **{name: st.sampled_from([*options, "", "with"]) for name, options in OPTIONS.items()},
)


def test_the_order_of_the_facts_in_words() -> None:
    """As the log has it."""
    assert (
        described(request())
        == "40 Base 40mm Drilling 3s Complete inspection Without cleaning Without pressing"
    )


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("base", "Base 30mm", "must be one of Base 40mm, Base 20mm"),
        ("drilling", "with", "must be one of 3 second Drilling, Without Drilling"),
        ("cleaning", "", "must be one of With, Without"),
        ("inspection", "Complete ", "must be one of Complete, Without"),
        ("amount", 0, "must be 1 to 1000 pieces"),
        ("amount", MOST + 1, "must be 1 to 1000 pieces"),
    ],
)
def test_a_refusal_names_the_field_and_the_reason(field: str, value: str | int, says: str) -> None:
    """So that the page can show it where it belongs."""
    with pytest.raises(InvalidOrderError) as refused:
        check_order(msgspec.structs.replace(request(), **{field: value}), MOST)
    assert refused.value.field == field
    assert str(refused.value) == f"{field}: {says}"


def test_a_base_without_any_work_is_not_sold() -> None:
    """Each option is one there is, and all together are nothing to do."""
    nothing = msgspec.structs.replace(request(), drilling="Without Drilling", inspection="Without")
    with pytest.raises(InvalidOrderError, match="choose at least one"):
        check_order(nothing, MOST)


@given(requests)
def test_what_is_taken_can_be_said_in_words(order: OrderRequest) -> None:
    """Every order is either refused, or every option of it has its words."""
    with contextlib.suppress(InvalidOrderError):
        check_order(order, MOST)
        assert described(order).startswith(f"{order.amount} {order.base} ")
