"""Looks at a tenant's set-up from end to end and says what to do; changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max, Min

from billing import formulas
from billing.models import CustomerLink, Mode, PriceMapping, Push, StripeAccount, WebhookInbox
from billing.stripe.client import KeyMissing, KeyOfWrongMode, secret_key
from billing.stripe.errors import StripeRefused, StripeUnavailable
from billing.stripe.meters import find_meter
from counters.models import Counter
from ledger.models import PendingBatch
from stripemeter.tenancy.models import Tenant

#: Each mapping costs one read of Stripe.
MAPPINGS_MAX = 20
CUSTOMERS_SHOWN = 5
PENDING_AGE_MAX = timedelta(seconds=60)
WEBHOOK_SILENCE_MAX = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ``state`` is ok, warn or bad; ``told`` says what to do."""

    state: str
    name: str
    told: str


def diagnose(*, tenant: Tenant, now: datetime) -> list[Finding]:
    """Every finding, in the order in which one would set things up."""
    mappings = list(
        PriceMapping.objects.filter(tenant=tenant, active=True)
        .select_related("metric")
        .order_by("metric__name")
    )
    return [
        _migrations(),
        *_keys(mappings),
        *_accounts(mappings),
        *_meters(mappings),
        *_customers(tenant, mappings, now),
        *_webhooks(now),
        *_queues(tenant, now),
    ]


def _migrations() -> Finding:
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        return Finding("bad", "migrations", f"{len(waiting)} not applied: run manage.py migrate")
    return Finding("ok", "migrations", "all applied")


def _keys(mappings: list[PriceMapping]) -> Iterator[Finding]:
    wanted = {Mode.LIVE: True, Mode.TEST: any(mapping.shadow for mapping in mappings)}
    for mode, needed in wanted.items():
        name = f"{mode} key"
        try:
            secret_key(mode)
        except KeyMissing as error:
            told = f"{error}: nothing is sent to the {mode} account"
            yield Finding("bad" if needed and mappings else "warn", name, told)
        except KeyOfWrongMode as error:
            yield Finding("bad", name, f"{error}; put the right one in its place")
        else:
            yield Finding("ok", name, "is set")


def _accounts(mappings: list[PriceMapping]) -> Iterator[Finding]:
    own = {mapping.stripe_account for mapping in mappings}
    own |= {mapping.shadow_stripe_account or "" for mapping in mappings if mapping.shadow}
    for account in StripeAccount.objects.filter(account__in=own).order_by("account", "mode"):
        name = f"account {account}"
        if account.halted_at is not None:
            told = f"halted: {account.halted_reason}; manage.py stripe_account resume"
            yield Finding("bad", name, told)
        elif account.livemode_checked_at is None:
            yield Finding("warn", name, "nothing was sent yet, so its mode is not proved")
        else:
            yield Finding("ok", name, f"has answered with objects of {account.mode} mode")


def _meters(mappings: list[PriceMapping]) -> Iterator[Finding]:
    for mapping in mappings[:MAPPINGS_MAX]:
        event_name = mapping.stripe_meter_event_name or mapping.metric.name
        name = f"meter {event_name}"
        if not formulas.has_meter(mapping.push_semantics):
            continue  # usage records have no meter
        try:
            meter = find_meter(
                mode=Mode.LIVE, account=mapping.stripe_account, event_name=event_name
            )
        except (StripeUnavailable, StripeRefused, KeyMissing, KeyOfWrongMode) as error:
            yield Finding("warn", name, f"cannot be read: {error}")
            continue
        yield _meter_finding(name, meter, mapping)
    if len(mappings) > MAPPINGS_MAX:
        told = f"looked at the first {MAPPINGS_MAX} of {len(mappings)} mappings"
        yield Finding("warn", "meters", told)


def _meter_finding(name: str, meter: dict[str, Any] | None, mapping: PriceMapping) -> Finding:
    if meter is None:
        told = f"does not exist in {mapping.stripe_account}: make it, or correct the mapping"
        return Finding("bad", name, told)
    if meter.get("status") != "active":
        return Finding("bad", name, "is archived: pushes to it are refused")
    reason = formulas.meter_refusal(mapping.push_semantics, meter)
    if reason is not None:
        return Finding("bad", name, f"cannot take {mapping.aggregation}: {reason}")
    formula = meter["default_aggregation"]["formula"]
    return Finding("ok", name, f"{formula}, fed with {mapping.aggregation}")


def _customers(tenant: Tenant, mappings: list[PriceMapping], now: datetime) -> Iterator[Finding]:
    if not mappings:
        yield Finding("warn", "mappings", "none yet: POST /v1/mappings, or nothing is billed")
        return
    used = (
        Counter.objects.filter(
            tenant_id=tenant.pk,
            metric_id__in=[mapping.metric_id for mapping in mappings],
            period_end__gt=now,
        )
        .exclude(customer_ref__startswith="cus_")
        .values_list("customer_ref", flat=True)
        .distinct()
    )
    linked = CustomerLink.objects.filter(tenant=tenant, mode=Mode.LIVE).values("customer_ref")
    missing = sorted(used.exclude(customer_ref__in=linked)[: CUSTOMERS_SHOWN + 1])
    if missing:
        shown = ", ".join(missing[:CUSTOMERS_SHOWN])
        more = " and more" if len(missing) > CUSTOMERS_SHOWN else ""
        told = f"{shown}{more} have usage and no Stripe customer: POST /v1/customers"
        yield Finding("bad", "customers", told)
    else:
        yield Finding("ok", "customers", "everyone with usage is a Stripe customer")


def _webhooks(now: datetime) -> Iterator[Finding]:
    address = f"{settings.PUBLIC_URL}/webhooks/stripe"
    if not settings.STRIPE_WEBHOOK_SECRETS:
        told = f"no signing secret: add {address} in Stripe, set STRIPE_WEBHOOK_SECRET"
        yield Finding("bad", "webhooks", told)
        return
    newest = WebhookInbox.objects.aggregate(newest=Max("received_at"))["newest"]
    if newest is None:
        told = f"none has arrived yet: is {address} an endpoint of the account, and reachable?"
        yield Finding("warn", "webhooks", told)
    elif now - newest > WEBHOOK_SILENCE_MAX:
        yield Finding("warn", "webhooks", f"none since {newest:%Y-%m-%d}: is {address} reachable?")
    else:
        yield Finding("ok", "webhooks", f"the last arrived {newest:%Y-%m-%d %H:%M} UTC")
    if WebhookInbox.objects.filter(status=WebhookInbox.Status.PARKED).exists():
        yield Finding("bad", "webhooks parked", "some failed too often: see the webhook inbox")


def _queues(tenant: Tenant, now: datetime) -> Iterator[Finding]:
    oldest = PendingBatch.objects.filter(tenant_id=tenant.pk).aggregate(at=Min("recorded_at"))["at"]
    if oldest is not None and now - oldest > PENDING_AGE_MAX:
        told = f"events wait to be folded for {(now - oldest).total_seconds():.0f} s: start workers"
        yield Finding("bad", "fold", told)
    else:
        yield Finding("ok", "fold", "keeps up")
    for state, told in (
        ("needs_review", "wait for a decision: look at them under Pushes in the dashboard"),
        ("parked", "were refused by Stripe: correct the customer link or the mapping"),
    ):
        stuck = Push.objects.filter(tenant_id=tenant.pk, state=state).exists()
        yield Finding("bad" if stuck else "ok", f"pushes {state}", told if stuck else "none")
