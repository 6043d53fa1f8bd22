"""The predecessor's invoice arithmetic, number for number.

Two places whatever the currency; credits count in full even above the subtotal; zero means "not
set" for minimum and maximum; tax on what is left. Terms the predecessor did not have are refused
here, so that nobody takes their absence for a result.
"""

from __future__ import annotations

from decimal import Decimal

from billing.pricing.currencies import currency_exponent
from billing.pricing.errors import UnsupportedTerm
from billing.pricing.invoice import Invoice, InvoiceLine, LineKind, Taken, TakenKind
from billing.pricing.models import Model, Rated, RuleSet, TaxBehavior
from billing.pricing.numbers import (
    ZERO,
    add,
    divide,
    half_up,
    major,
    multiply,
    plain,
    scale,
    subtract,
)
from billing.pricing.rating import Rater
from billing.pricing.reading import at
from billing.pricing.terms import (
    Commitment,
    Credit,
    CreditTiming,
    InvoiceInput,
    UsageItem,
)

# The predecessor rounds every currency to two places.
COMPAT_EXPONENT = 2


def compat_invoice(given: InvoiceInput) -> Invoice:
    """An invoice as the predecessor computes it. Source: runs of its public pricing library."""
    _refuse_foreign_terms(given)
    lines = tuple(_line(item, index) for index, item in enumerate(given.items))
    subtotal = sum(line.amount_minor for line in lines)
    taken, committed, credited = _taken(given, Decimal(subtotal))
    taxable = max(ZERO, subtract(Decimal(subtotal), add(committed, credited)))
    tax = scale(multiply(taxable, given.tax_rate), -2)
    total = half_up(add(taxable, tax))
    return Invoice(
        customer_id=given.customer_id,
        period_start=given.period_start,
        period_end=given.period_end,
        currency=given.currency,
        exponent=COMPAT_EXPONENT,
        rules=RuleSet.COMPAT,
        lines=lines,
        taken=taken,
        subtotal_minor=subtotal,
        discount_minor=0,
        commitment_minor=half_up(committed),
        credit_minor=half_up(credited),
        taxable_minor=half_up(taxable),
        tax_minor=half_up(tax),
        tax_included_minor=0,
        total_minor=total,
        amount_due_minor=total,
        notes=_notes(given, lines),
    )


def _refuse_foreign_terms(given: InvoiceInput) -> None:
    foreign = (
        ("coupons", bool(given.coupons)),
        ("fixedFees", bool(given.fixed_fees)),
        ("minimumSpend", given.minimum_spend is not None),
        ("taxBehavior", given.tax_behavior is not TaxBehavior.EXCLUSIVE),
        ("credits", any(_has_foreign_scope(credit) for credit in given.credits)),
        ("commitments", any(item.metrics is not None for item in given.commitments)),
        ("usageItems", any(not item.taxable for item in given.items)),
    )
    for path, present in foreign:
        if present:
            raise UnsupportedTerm("needs the rule set 'stripe'", path=path)


def _has_foreign_scope(credit: Credit) -> bool:
    return credit.metrics is not None or credit.timing is CreditTiming.AFTER_TAX


def _line(item: UsageItem, index: int) -> InvoiceLine:
    with at(f"usageItems[{index}]"):
        rated = Rater(item.price, RuleSet.COMPAT).rate(item.quantity)
    return InvoiceLine(
        kind=LineKind.USAGE,
        metric=item.metric,
        description=f"{plain(item.quantity)} units of {item.metric}",
        quantity=item.quantity,
        unit_price=major(half_up(_unit_amount(item, rated)), COMPAT_EXPONENT),
        amount_minor=rated.amount,
        exponent=COMPAT_EXPONENT,
        rated=rated,
    )


def _unit_amount(item: UsageItem, rated: Rated) -> Decimal:
    """Average before minimum and maximum for tiered and graduated; else the price that applied."""
    if item.price.model in (Model.TIERED, Model.GRADUATED):
        return divide(rated.base, item.quantity) if item.quantity else ZERO
    if item.price.model is Model.VOLUME:
        return rated.rows[0].unit_amount if rated.rows else item.price.tiers[0].unit_amount
    return item.price.unit_amount


def _taken(given: InvoiceInput, subtotal: Decimal) -> tuple[tuple[Taken, ...], Decimal, Decimal]:
    """Commitments draw down what is left of the subtotal; credits count in full, uncapped."""
    taken: list[Taken] = []
    committed = credited = ZERO
    for commitment in given.commitments:
        if not _overlaps(commitment, given):
            continue
        available = subtract(commitment.amount, commitment.applied)
        used = min(available, max(ZERO, subtract(subtotal, committed)))
        committed = add(committed, used)
        left = half_up(subtract(available, used))
        taken.append(Taken(TakenKind.COMMITMENT, "commitment", half_up(used), half_up(used), left))
    open_amount = max(ZERO, subtract(subtotal, committed))
    for credit in given.credits:
        if credit.expires_at is not None and credit.expires_at < given.period_end:
            continue
        used = min(credit.amount, open_amount)
        open_amount = subtract(open_amount, used)
        credited = add(credited, credit.amount)
        counted, spent = half_up(credit.amount), half_up(used)
        taken.append(Taken(TakenKind.CREDIT, credit.reason, counted, spent, counted - spent))
    return tuple(taken), committed, credited


def _overlaps(commitment: Commitment, given: InvoiceInput) -> bool:
    """Dates as instants, touching ends included, as the predecessor compares them."""
    starts_in_time = commitment.start is None or commitment.start <= given.period_end
    return starts_in_time and (commitment.end is None or commitment.end >= given.period_start)


def _notes(given: InvoiceInput, lines: tuple[InvoiceLine, ...]) -> tuple[str, ...]:
    notes = []
    if currency_exponent(given.currency) != COMPAT_EXPONENT:
        notes.append(f"{given.currency} does not have two decimals; these rules use two anyway")
    for line in lines:
        if line.rated is not None and line.rated.unpriced:
            notes.append(
                f"{line.metric}: {plain(line.rated.unpriced)} units above the last tier are free"
            )
        if line.quantity < 0:
            notes.append(f"{line.metric}: negative quantity")
    return tuple(notes)
