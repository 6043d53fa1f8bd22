"""An invoice by Stripe's rules, in a fixed order of steps.

1. usage lines (rated, rounded half up per line) and fixed fees (prorated on request)
2. minimum spend: the shortfall of the charges so far becomes a line that no coupon reduces
3. coupons in the order given, each on what the earlier ones left
4. commitments, those that end soonest first; then credits by priority, expiry, category, start
5. tax on what is left of each line, on top or included
6. customer balance, on the taxed total

Every step is in whole minor units and its shares per line sum exactly, so that the invoice adds
up: lines - discounts - commitments - credits + exclusive tax = total.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from billing.pricing.invoice import Invoice, InvoiceLine, LineKind, Taken, TakenKind
from billing.pricing.models import Model, Rated, RuleSet, TaxBehavior
from billing.pricing.numbers import (
    DIVIDING,
    ZERO,
    add,
    allocate,
    divide,
    half_up,
    major,
    multiply,
    plain,
    round_running,
    scale,
)
from billing.pricing.proration import prorate
from billing.pricing.rating import Rater
from billing.pricing.reading import at
from billing.pricing.terms import (
    Commitment,
    Credit,
    CreditCategory,
    CreditTiming,
    FixedFee,
    InvoiceInput,
    TaxRounding,
    UsageItem,
)

_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)
# Average prices of a tiered line are shown, never multiplied; 12 places as Stripe's unit amounts.
_SHOWN_PLACES: Final = Decimal(1).scaleb(-12)
# A contained tax may be periodic: far finer than a minor unit, short enough to be summed exactly.
_TAX_PLACES: Final = Decimal(1).scaleb(-40)


@dataclass(slots=True)
class _Work:
    """One line on its way through the steps; `open` is what is left to reduce or tax."""

    line: InvoiceLine
    open: int
    taxable: bool
    discountable: bool
    behavior: TaxBehavior
    discount: int = 0
    credit: int = 0
    tax: int = 0


def standard_invoice(
    given: InvoiceInput, *, raters: Callable[[UsageItem], Rater] | None = None
) -> Invoice:
    """Compute an invoice by Stripe's rules; `raters` may supply prepared raters for speed."""
    work = [_usage_work(given, index, raters) for index in range(len(given.items))]
    work += [_fee_work(given, fee) for fee in given.fixed_fees]
    work += _true_up(given, work)
    taken = _apply_coupons(given, work)
    taken += _apply_commitments(given, work)
    taken += _apply_credits(given, work)
    taxable = sum(item.open for item in work if item.taxable)
    included = _apply_tax(given, work)
    exclusive = sum(item.tax for item in work) - included
    total = sum(item.open for item in work) + exclusive
    balances, due = _apply_balances(given, total)
    return Invoice(
        customer_id=given.customer_id,
        period_start=given.period_start,
        period_end=given.period_end,
        currency=given.currency,
        exponent=given.exponent,
        rules=RuleSet.STRIPE,
        lines=tuple(_finished(item) for item in work),
        taken=(*taken, *balances),
        subtotal_minor=sum(item.line.amount_minor for item in work),
        discount_minor=_sum_used(taken, TakenKind.COUPON),
        commitment_minor=_sum_used(taken, TakenKind.COMMITMENT),
        credit_minor=_sum_used(taken, TakenKind.CREDIT),
        taxable_minor=taxable,
        tax_minor=exclusive + included,
        tax_included_minor=included,
        total_minor=total,
        amount_due_minor=due,
    )


# -- lines -----------------------------------------------------------------------------------


def _usage_work(
    given: InvoiceInput, index: int, raters: Callable[[UsageItem], Rater] | None
) -> _Work:
    item, path = given.items[index], f"usageItems[{index}]"
    with at(f"{path}.priceConfig"):
        rater = raters(item) if raters is not None else Rater(item.price, RuleSet.STRIPE)
    with at(path):
        rated = rater.rate(item.quantity)
    line = InvoiceLine(
        kind=LineKind.USAGE,
        metric=item.metric,
        description=f"{plain(item.quantity)} units of {item.metric}",
        quantity=item.quantity,
        unit_price=major(_unit_amount(item, rated), given.exponent),
        amount_minor=rated.amount,
        exponent=given.exponent,
        rated=rated,
    )
    behavior = item.price.tax_behavior or given.tax_behavior
    return _Work(line, line.amount_minor, item.taxable, True, behavior)


def _unit_amount(item: UsageItem, rated: Rated) -> Decimal:
    """The price that applied; for graduated prices the average, to 12 places, for display only."""
    if item.price.model in (Model.FLAT, Model.PACKAGE):
        return item.price.unit_amount
    if item.price.model is Model.VOLUME and rated.rows:
        return rated.rows[0].unit_amount
    if not item.quantity:
        return ZERO
    return divide(rated.base, item.quantity).quantize(_SHOWN_PLACES, context=DIVIDING)


def _fee_work(given: InvoiceInput, fee: FixedFee) -> _Work:
    amount = prorate(
        fee.amount,
        start=fee.start or given.period_start,
        end=fee.end or given.period_end,
        period_start=given.period_start,
        period_end=given.period_end,
        mode=fee.proration,
    )
    line = _plain_line(given, LineKind.FIXED, fee.description, amount)
    return _Work(line, amount, fee.taxable, True, given.tax_behavior)


def _plain_line(given: InvoiceInput, kind: LineKind, text: str, amount: int) -> InvoiceLine:
    return InvoiceLine(
        kind=kind,
        metric="",
        description=text,
        quantity=Decimal(1),
        unit_price=major(amount, given.exponent),
        amount_minor=amount,
        exponent=given.exponent,
    )


def _true_up(given: InvoiceInput, work: list[_Work]) -> list[_Work]:
    """The line that lifts the charges to the minimum spend; none when they reach it."""
    if given.minimum_spend is None:
        return []
    short = half_up(given.minimum_spend.amount) - sum(item.open for item in work)
    if short <= 0:
        return []
    line = _plain_line(given, LineKind.TRUE_UP, "Minimum spend true-up", short)
    return [_Work(line, short, taxable=True, discountable=False, behavior=given.tax_behavior)]


def _finished(item: _Work) -> InvoiceLine:
    return replace(
        item.line, discount_minor=item.discount, credit_minor=item.credit, tax_minor=item.tax
    )


# -- reductions ------------------------------------------------------------------------------


def _scope(work: list[_Work], metrics: frozenset[str] | None) -> list[_Work]:
    """The lines a term reaches: all of them, or the usage of the named metrics."""
    if metrics is None:
        return work
    return [item for item in work if item.line.metric in metrics]


def _apply_coupons(given: InvoiceInput, work: list[_Work]) -> list[Taken]:
    taken = []
    for coupon in given.coupons:
        scope = [item for item in _scope(work, coupon.metrics) if item.discountable]
        open_amount = sum(item.open for item in scope)
        if coupon.percent_off is not None:
            wanted = half_up(scale(multiply(Decimal(open_amount), coupon.percent_off), -2))
        else:
            wanted = half_up(coupon.amount_off or ZERO)
        used = min(wanted, open_amount)
        for item, part in zip(scope, _shares(used, scope), strict=True):
            item.open -= part
            item.discount += part
        taken.append(Taken(TakenKind.COUPON, coupon.name, used, used, None))
    return taken


def _apply_commitments(given: InvoiceInput, work: list[_Work]) -> list[Taken]:
    running = [item for item in given.commitments if _is_running(item, given)]
    running.sort(key=lambda item: (item.end or _NEVER, item.start or _ALWAYS))
    return [
        _draw(
            TakenKind.COMMITMENT,
            "commitment",
            half_up(item.amount - item.applied),
            _scope(work, item.metrics),
        )
        for item in running
    ]


def _is_running(item: Commitment, given: InvoiceInput) -> bool:
    starts_in_time = item.start is None or item.start < given.period_end
    return starts_in_time and (item.end is None or item.end > given.period_start)


def _apply_credits(given: InvoiceInput, work: list[_Work]) -> list[Taken]:
    usable = [
        credit for credit in usable_credits(given) if credit.timing is CreditTiming.BEFORE_TAX
    ]
    return [
        _draw(TakenKind.CREDIT, item.reason, half_up(item.amount), _scope(work, item.metrics))
        for item in usable
    ]


def usable_credits(given: InvoiceInput) -> list[Credit]:
    """Credits valid at the end of the period, in the order they are used.

    Stripe's order for credit grants: priority (lower first), soonest expiry, promotional before
    paid, earliest start, then as given.
    """
    valid = [
        credit
        for credit in given.credits
        if (credit.effective_at is None or credit.effective_at < given.period_end)
        and (credit.expires_at is None or credit.expires_at >= given.period_end)
    ]
    return sorted(
        valid,
        key=lambda credit: (
            credit.priority,
            credit.expires_at or _NEVER,
            credit.category is not CreditCategory.PROMOTIONAL,
            credit.effective_at or _ALWAYS,
        ),
    )


def _draw(kind: TakenKind, name: str, available: int, scope: list[_Work]) -> Taken:
    used = min(available, sum(item.open for item in scope))
    for item, part in zip(scope, _shares(used, scope), strict=True):
        item.open -= part
        item.credit += part
    return Taken(kind, name, used, used, available - used)


def _shares(amount: int, scope: list[_Work]) -> list[int]:
    return allocate(amount, [item.open for item in scope])


def _apply_balances(given: InvoiceInput, total: int) -> tuple[list[Taken], int]:
    taken, due = [], total
    for credit in usable_credits(given):
        if credit.timing is CreditTiming.AFTER_TAX:
            available = half_up(credit.amount)
            used = min(available, due)
            due -= used
            taken.append(Taken(TakenKind.BALANCE, credit.reason, used, used, available - used))
    return taken, due


def _sum_used(taken: list[Taken], kind: TakenKind) -> int:
    return sum(item.used_minor for item in taken if item.kind is kind)


# -- tax -------------------------------------------------------------------------------------


def _apply_tax(given: InvoiceInput, work: list[_Work]) -> int:
    """Set each line's tax; return the part that is contained in the amounts.

    Stripe's rounding example for tax rates rounds each line. `TaxRounding.INVOICE` rounds the sum
    of each behaviour once and spreads it so that the lines still add up.
    """
    included = 0
    for behavior in TaxBehavior:
        lines = [item for item in work if item.taxable and item.behavior is behavior]
        exacts = [_exact_tax(item.open, given.tax_rate, behavior) for item in lines]
        if given.tax_rounding is TaxRounding.LINE:
            parts = [half_up(exact) for exact in exacts]
        else:
            parts = round_running(exacts)
        for item, part in zip(lines, parts, strict=True):
            item.tax = part
        if behavior is TaxBehavior.INCLUSIVE:
            included = sum(parts)
    return included


def _exact_tax(amount: int, rate: Decimal, behavior: TaxBehavior) -> Decimal:
    part = multiply(Decimal(amount), rate)
    if behavior is TaxBehavior.EXCLUSIVE:
        return scale(part, -2)
    exact = divide(part, add(Decimal(100), rate))
    return exact.quantize(_TAX_PLACES, context=DIVIDING)
