"""What an owner decides for the whole tenant. Every setting here is read by a service."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from stripemeter.lib import text
from stripemeter.lib.decimals import NotANumber, decimal_of, digits_and_decimals
from stripemeter.lib.errors import Conflict, InvalidRequest, invalid
from stripemeter.tenancy import audit, members
from stripemeter.tenancy.models import Tenant

#: Stripe takes usage of the last 35 days; a longer wait could never be pushed in its slice.
LATENESS_HOURS_MAX = 24 * 34
CAP_DIGITS, CAP_DECIMALS, EPSILON_DECIMALS = 26, 12, 8


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """All of them; a form always gives all."""

    name: str
    #: Hours that an event may come after the newest of its counter before it counts as late.
    lateness_window_hours: int
    late_policy: str
    single_operator: bool
    #: Absolute, in units of the metric; None for no cap.
    adjustment_cap: Decimal | None
    #: Share, 0 to 1.
    epsilon: Decimal


def settings_of(tenant: Tenant) -> TenantSettings:
    """As they stand."""
    return TenantSettings(
        tenant.name,
        tenant.lateness_window_hours,
        tenant.late_policy,
        tenant.single_operator,
        tenant.adjustment_cap,
        Decimal(tenant.epsilon),
    )


def read_settings(given: dict[str, str]) -> TenantSettings:
    """Settings from a form's text. Raises `InvalidRequest` with one error per wrong field."""
    errors = []
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        try:
            values[name] = read(given.get(name, "").strip())
        except InvalidRequest as wrong:
            errors += wrong.errors
    if errors:
        detail = "; ".join(f"{error.field}: {error.detail}" for error in errors)
        raise InvalidRequest(detail, errors=errors)
    return TenantSettings(**values)


def _name(written: str) -> str:
    if not 1 <= len(written) <= 200 or text.FORBIDDEN.search(written):
        raise invalid("name", "must have 1 to 200 plain characters")
    return written


def _hours(written: str) -> int:
    is_number = written.isascii() and written.isdigit() and len(written) <= 5
    if not is_number or int(written) > LATENESS_HOURS_MAX:
        raise invalid("lateness_window_hours", f"must be a whole number up to {LATENESS_HOURS_MAX}")
    return int(written)


def _policy(written: str) -> str:
    if written not in Tenant.LatePolicy.values:
        raise invalid("late_policy", "must be auto or review")
    return written


def _number(name: str, written: str, *, digits: int, decimals: int) -> Decimal:
    try:
        number = decimal_of(written)
    except NotANumber as error:
        raise invalid(name, "must be a plain decimal number") from error
    found = digits_and_decimals(number)
    if number < 0 or found[0] > digits or found[1] > decimals or number >= 10**digits:
        raise invalid(name, f"must be 0 or more, with at most {decimals} decimals")
    return number


def _cap(written: str) -> Decimal | None:
    if not written:
        return None
    return _number("adjustment_cap", written, digits=CAP_DIGITS, decimals=CAP_DECIMALS)


def _epsilon(written: str) -> Decimal:
    share = _number("epsilon", written, digits=9, decimals=EPSILON_DECIMALS)
    if share > 1:
        raise invalid("epsilon", "must be a share from 0 to 1, such as 0.005")
    return share


_READERS = {
    "name": _name,
    "lateness_window_hours": _hours,
    "late_policy": _policy,
    "single_operator": lambda written: written == "on",
    "adjustment_cap": _cap,
    "epsilon": _epsilon,
}


@transaction.atomic
def change_settings(
    *, tenant_id: int, wanted: TenantSettings, actor: str, now: datetime
) -> list[str]:
    """Put ``wanted`` in force; names of what changed. The next fold, approval or run reads it.

    Raises `Conflict` if one person is to approve alone where several decide.
    """
    tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
    if wanted.single_operator and not tenant.single_operator:
        deciding = members.operators_who_decide(tenant_id)
        if deciding > 1:
            raise Conflict(
                f"{deciding} people may approve here, so four eyes stay: a request is approved "
                "by somebody else than its author.",
                code="several_operators",
            )
    held = settings_of(tenant)
    changed = [name for name in _READERS if getattr(held, name) != getattr(wanted, name)]
    if not changed:
        return []
    for name in changed:
        setattr(tenant, name, getattr(wanted, name))
    tenant.save(update_fields=changed)
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="tenant.changed",
        object_type="tenant",
        object_id=tenant.key,
        now=now,
        before={name: getattr(held, name) for name in changed},
        after={name: getattr(wanted, name) for name in changed},
    )
    return changed
