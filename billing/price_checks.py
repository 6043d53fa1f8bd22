"""Cases on which our arithmetic is held against Stripe's: the published ones and a tenant's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from billing.pricing import (
    Model,
    Price,
    Rater,
    RuleSet,
    Tier,
    TransformQuantity,
    stripe_price_params,
)
from billing.projection import price_book
from billing.stripe import previews

_PLAIN = ((5, 700, 0), (10, 650, 0), (None, 600, 0))
_FLAT = ((5, 500, 1000), (10, 400, 2000), (15, 300, 3000), (20, 200, 4000), (None, 100, 5000))


@dataclass(frozen=True, slots=True)
class Case:
    """A price and quantities; whole numbers only, since a preview takes no others."""

    name: str
    price: Price
    quantities: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """One quantity: our total, and Stripe's, in minor units."""

    case: Case
    quantity: int
    ours: int
    stripes: int
    lines: int

    @property
    def agrees(self) -> bool:
        """To the minor unit."""
        return self.ours == self.stripes


def _tiers(*rows: tuple[int | None, int, int]) -> tuple[Tier, ...]:
    return tuple(
        Tier(None if up_to is None else Decimal(up_to), Decimal(unit), Decimal(flat))
        for up_to, unit, flat in rows
    )


def golden_cases() -> list[Case]:
    """The examples of Stripe's own pages, and what those pages leave open: rounding, borders."""
    fine = tuple(
        Tier(up_to, Decimal(unit)) for up_to, unit in ((Decimal(3), "0.5"), (None, "0.35"))
    )
    cases = [
        Case(f"{model} without flat fees", Price(model, "USD", tiers=_tiers(*_PLAIN)),
             (0, 1, 5, 6, 20, 25))
        for model in (Model.VOLUME, Model.GRADUATED)
    ] + [
        Case(f"{model} with flat fees", Price(model, "USD", tiers=_tiers(*_FLAT)),
             (0, 1, 5, 6, 12, 20, 21))
        for model in (Model.VOLUME, Model.GRADUATED)
    ]  # fmt: skip
    package = TransformQuantity(Decimal(60))
    return [
        *cases,
        Case("graduated, parts of a cent per tier", Price(Model.GRADUATED, "USD", tiers=fine),
             (1, 3, 4, 7, 13)),
        Case("package of 60, rounded up",
             Price(Model.PACKAGE, "USD", unit_amount=Decimal(1000), transform=package),
             (0, 1, 60, 61, 150)),
        Case("unit of 0.05 cents", Price(Model.FLAT, "USD", unit_amount=Decimal("0.05")),
             (0, 1, 9, 10, 29, 30, 31)),
        Case("yen, which have no cents",
             Price(Model.FLAT, "JPY", exponent=0, unit_amount=Decimal("33.5")), (0, 1, 3)),
    ]  # fmt: skip


def tenant_cases(tenant_id: int) -> Iterator[Case]:
    """Every price of the tenant's mappings, around each border of its tiers."""
    book = price_book(tenant_id=tenant_id)
    for mapping in book.mappings:
        price = book.prices[mapping.pk]
        if price is not None and price.minimum is None and price.maximum is None:
            borders = [int(tier.up_to) for tier in price.tiers if tier.up_to is not None]
            if price.transform is not None:
                borders.append(int(price.transform.divide_by))
            around = {max(0, at + off) for at in (*borders, 1, 7) for off in (-1, 0, 1)}
            largest = max(borders, default=1_000) * 3 + 7
            name = f"{mapping.metric.name} ({mapping.price_id})"
            yield Case(name, price, tuple(sorted(around | {largest})))


def check(cases: list[Case], *, mode: str, account: str) -> Iterator[Checked]:
    """Ask Stripe about every case, one twin each; twins are archived at the end.

    Raises `StripeUnavailable`, `StripeRefused`, `KeyMissing`, `KeyOfWrongMode`.
    """
    product = previews.make_product(mode=mode, account=account)
    twins: list[str] = []
    try:
        for case in cases:
            rater = Rater(case.price, RuleSet.STRIPE)
            twin = previews.make_twin(
                mode=mode,
                account=account,
                product=product,
                amounts=stripe_price_params(case.price),
            )
            twins.append(twin)
            for quantity in case.quantities:
                said = previews.preview(
                    mode=mode,
                    account=account,
                    price=twin,
                    currency=case.price.currency,
                    quantity=quantity,
                )
                ours = rater.rate(Decimal(quantity)).amount
                yield Checked(case, quantity, ours, said.total, said.lines)
    finally:
        previews.archive(mode=mode, account=account, product=product, prices=twins)
