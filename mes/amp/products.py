"""What AMP makes: each product with its number, its options and its price.

A product is a base with some work done to it. Numbers stand in orders and never change their meaning: on a
base of 40 mm they are 1 to 15 in the order of `_WORK`, the most work first; on one of 20 mm the same, 15
further. So product 8 is a base of 40 mm, drilled and inspected. A base without any work is no product.
"""

from typing import Final

import msgspec

from mes.amp.errors import RefusedError

PRICES: Final[dict[str, dict[str, int]]] = {
    "base": {"Base 40mm": 10, "Base 20mm": 6},
    "drilling": {"3 second Drilling": 3, "Without Drilling": 0},
    "cleaning": {"With": 2, "Without": 0},
    "pressing": {"With": 3, "Without": 0},
    "inspection": {"Complete": 2, "Without": 0},
}
"""The options of each field, with what a piece costs for each; the prices add up."""

_WORK: Final = (
    ("drilling", "cleaning", "pressing", "inspection"),
    ("drilling", "cleaning", "pressing"),
    ("drilling", "cleaning", "inspection"),
    ("drilling", "pressing", "inspection"),
    ("cleaning", "pressing", "inspection"),
    ("drilling", "cleaning"),
    ("drilling", "pressing"),
    ("drilling", "inspection"),
    ("cleaning", "pressing"),
    ("cleaning", "inspection"),
    ("pressing", "inspection"),
    ("drilling",),
    ("cleaning",),
    ("pressing",),
    ("inspection",),
)


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One product, in the words of the order form."""

    product_id: int
    base: str
    drilling: str
    cleaning: str
    pressing: str
    inspection: str
    unit_price: int
    """Of a piece, in whole units of the price list's currency."""

    @property
    def text(self) -> str:
        """As people say it: `Base 40mm Drilling 3s Complete inspection Without cleaning Without pressing`."""
        drilling = "Drilling 3s" if self.drilling == "3 second Drilling" else "Without drilling"
        work = f"{self.inspection} inspection {self.cleaning} cleaning {self.pressing} pressing"
        return f"{self.base} {drilling} {work}"


def _product(product_id: int, base: str, work: tuple[str, ...]) -> Product:
    """The first option of a field is to do the work, the second to leave it."""
    options = {"base": base}
    for field in ("drilling", "cleaning", "pressing", "inspection"):
        done, left = PRICES[field]
        options[field] = done if field in work else left
    price = sum(PRICES[field][option] for field, option in options.items())
    return Product(product_id=product_id, unit_price=price, **options)


PRODUCTS: Final[dict[int, Product]] = {
    number: _product(number, base, work)
    for number, (base, work) in enumerate(((base, work) for base in PRICES["base"] for work in _WORK), 1)
}
"""All products, by number."""

_BY_OPTIONS: Final = {
    (each.base, each.drilling, each.cleaning, each.pressing, each.inspection): each
    for each in PRODUCTS.values()
}


def find_product(*, base: str, drilling: str, cleaning: str, pressing: str, inspection: str) -> Product:
    """The product with these options.

    Raises:
        RefusedError: a field has no such option, or there is no such product; it names the field.
    """
    options = (base, drilling, cleaning, pressing, inspection)
    for field, option in zip(PRICES, options, strict=True):
        if option not in PRICES[field]:
            raise RefusedError(field, f"must be {' or '.join(repr(known) for known in PRICES[field])}")
    product = _BY_OPTIONS.get(options)
    if product is None:
        raise RefusedError(
            "drilling", "a base without drilling, cleaning, pressing and inspection is not sold"
        )
    return product
