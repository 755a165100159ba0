"""The product list: its numbers, its prices, and what it refuses."""

import itertools

import pytest

from mes.amp.errors import RefusedError
from mes.amp.products import PRICES, PRODUCTS, find_product
from tests.mes.amp import GIVEN, changed

NUMBERS = {
    # drilling, cleaning, pressing, inspection: on 40 mm, on 20 mm
    "dcpi": (1, 16),
    "dcp": (2, 17),
    "dci": (3, 18),
    "dpi": (4, 19),
    "cpi": (5, 20),
    "dc": (6, 21),
    "dp": (7, 22),
    "di": (8, 23),
    "cp": (9, 24),
    "ci": (10, 25),
    "pi": (11, 26),
    "d": (12, 27),
    "c": (13, 28),
    "p": (14, 29),
    "i": (15, 30),
}


def options(work: str, base: str) -> dict[str, str]:
    """In the words of the order form."""
    return {
        "base": base,
        "drilling": "3 second Drilling" if "d" in work else "Without Drilling",
        "cleaning": "With" if "c" in work else "Without",
        "pressing": "With" if "p" in work else "Without",
        "inspection": "Complete" if "i" in work else "Without",
    }


@pytest.mark.parametrize("work", NUMBERS)
def test_numbers_never_change_their_meaning(work: str) -> None:
    """They stand in orders, for ever."""
    for base, number in zip(("Base 40mm", "Base 20mm"), NUMBERS[work], strict=True):
        product = find_product(**options(work, base))
        assert product.product_id == number
        assert product == PRODUCTS[number]


def test_prices_add_up() -> None:
    """What a piece costs is its base and the work on it."""
    prices = {"d": 3, "c": 2, "p": 3, "i": 2}
    for work, numbers in NUMBERS.items():
        for base_price, number in zip((10, 6), numbers, strict=True):
            assert PRODUCTS[number].unit_price == base_price + sum(prices[part] for part in work)


def test_the_given_order_is_product_8_for_15_a_piece() -> None:
    """So 40 pieces cost 600."""
    product = GIVEN.check()
    assert (product.product_id, product.unit_price * GIVEN.amount) == (8, 600)
    assert product.text == "Base 40mm Drilling 3s Complete inspection Without cleaning Without pressing"


def test_all_combinations_are_products_but_those_without_work() -> None:
    """Each once; a bare base is refused with what is missing."""
    combinations = [dict(zip(PRICES, each, strict=True)) for each in itertools.product(*PRICES.values())]
    assert len(combinations) == 32
    found = [find_product(**each) for each in combinations if each not in _BARE]
    assert sorted(product.product_id for product in found) == list(range(1, 31))
    for each in _BARE:
        with pytest.raises(RefusedError, match="is not sold") as refused:
            find_product(**each)
        assert refused.value.field == "drilling"


_BARE = [options("", base) for base in ("Base 40mm", "Base 20mm")]


@pytest.mark.parametrize("field", PRICES)
@pytest.mark.parametrize("option", ["", "with", "Base 30mm", "With ", "Without\n", "%s{0}"])
def test_an_unknown_option_is_refused_with_its_field_and_the_known_ones(field: str, option: str) -> None:
    """Without repeating what came."""
    with pytest.raises(RefusedError) as refused:
        changed(GIVEN, **{field: option}).check()
    assert refused.value.field == field
    known = " or ".join(repr(known) for known in PRICES[field])
    assert str(refused.value) == f"{field}: must be {known}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", 0), ("amount", -1), ("amount", 1_000_001), ("user_id", 0), ("user_id", 1 << 53)],
)
def test_numbers_out_of_bounds_are_refused(field: str, value: int) -> None:
    """With the bounds."""
    with pytest.raises(RefusedError, match="must be from 1 to") as refused:
        changed(GIVEN, **{field: value}).check()
    assert refused.value.field == field


def test_the_bounds_themselves_can_be_ordered() -> None:
    """One piece, and a million."""
    for amount in (1, 1_000_000):
        assert changed(GIVEN, amount=amount, user_id=(1 << 53) - 1).check().product_id == 8
