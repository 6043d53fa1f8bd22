"""What must exist for the catalogue: two tenants, their keys, objects and operators."""

import json
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.utils.crypto import get_random_string

from billing.models import Push, PushCursor, PushSlice, StripeAccount
from counters.services.adjustments import create_adjustment
from stripemeter.lib import clock
from stripemeter.lib.decimals import decimal_of
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy import services
from stripemeter.tenancy.models import ApiKey, Membership, Tenant
from stripemeter.tenancy.principals import Principal
from stripemeter.tenancy.scopes import ALL_SCOPES
from widget.services import sessions

CANARY = "canary-of-tenant-b-7d1f"
PASSWORD = "correct horse battery staple"
CUSTOMER_CANARY = "cus_t2-canary"
#: Tables in which a refused request may leave no trace.
DOMAIN_PREFIXES = ("ledger_", "counters_", "billing_", "reconciliation_", "widget_", "djstripe_")
WEBHOOK_TABLES = ("billing_webhookinbox",)


class World:
    """Builds on first use, so that areas that are not built yet cost nothing."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.tenants = {letter: self._tenant(letter) for letter in "AB"}
        self.keys: dict[str, str] = {}
        self._make_keys()
        self._make_events()
        self.csrf = get_random_string(32)

    # --- tenants and keys ----------------------------------------------------------------

    @staticmethod
    def _tenant(letter: str) -> Tenant:
        return services.create_tenant(
            key=str(uuid.uuid4()),
            name=CANARY if letter == "B" else "Tenant A",
            actor="test",
            now=clock.now(),
        )

    def _key(self, letter: str, scopes: list[str] | None = None) -> tuple[ApiKey, str]:
        return services.create_api_key(
            tenant_id=self.tenants[letter].pk,
            name=CANARY if letter == "B" else "key",
            actor="test",
            now=clock.now(),
            scopes=sorted(ALL_SCOPES) if scopes is None else scopes,
        )

    def _make_keys(self) -> None:
        reads = sorted(scope for scope in ALL_SCOPES if scope.endswith(":read"))
        for name, letter, scopes in (
            ("KEY_A", "A", None), ("KEY_B", "B", None), ("KEY_A_READ", "A", reads),
            ("KEY_A_WRITE", "A", ["events:write"]), ("KEY_A_REVOKED", "A", None),
            ("KEY_A_EXPIRED", "A", None), ("KEY_A_OTHER", "A", None),
        ):  # fmt: skip
            key, self.keys[name] = self._key(letter, scopes)
            if name == "KEY_A_REVOKED":
                ApiKey.objects.filter(pk=key.pk).update(revoked_at=clock.now())
            if name == "KEY_A_EXPIRED":
                past = clock.now() - timedelta(seconds=1)
                ApiKey.objects.filter(pk=key.pk).update(expires_at=past)

    def _make_events(self) -> None:
        yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        mine = {"tenantId": self.tenants["A"].key, "metric": "api_calls", "ts": yesterday}
        theirs = mine | {"tenantId": self.tenants["B"].key}
        self.api("POST", "/v1/events/ingest", {"events": [
            mine | {"customerRef": "cus_t1", "quantity": 3},
            mine | {"customerRef": "cus_t2", "quantity": 5, "resourceId": CUSTOMER_CANARY},
        ]})  # fmt: skip
        self.api("POST", "/v1/events/ingest", {"events": [
            theirs | {"customerRef": "cus_b1", "quantity": 7, "resourceId": CANARY},
            theirs | {"customerRef": CANARY, "quantity": 7},
            theirs | {"customerRef": "cus_b1", "quantity": 9, "idempotencyKey": "shared-key-1"},
        ]}, key="KEY_B")  # fmt: skip

    # --- talking to the server -------------------------------------------------------------

    def api(self, method: str, path: str, body: Any = None, *, key: str = "KEY_A") -> Any:
        """The JSON answer of a 2xx, else None."""
        host = urlsplit(self.base)
        peer = HTTPConnection(host.hostname or "", host.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        data = None if body is None else json.dumps(body)
        if data:
            headers["Content-Type"] = "application/json"
        try:
            peer.request(method, path, data, headers)
            answer = peer.getresponse()
            text = answer.read()
        finally:
            peer.close()
        return json.loads(text or b"{}") if 200 <= answer.status < 300 else None

    def control(self, *, key: str = "KEY_A") -> bool:
        """Whether a plain valid event is accepted."""
        letter = key[4]
        moment = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "tenantId": self.tenants[letter].key, "metric": "api_calls", "customerRef": "cus_t1",
            "quantity": 1, "ts": moment, "idempotencyKey": str(uuid.uuid4()),
        }  # fmt: skip
        answer = self.api("POST", "/v1/events/ingest", {"events": [event]}, key=key)
        return bool(answer) and answer["accepted"] == 1

    # --- values ------------------------------------------------------------------------------

    @cached_property
    def known(self) -> dict[str, Callable[[], str | None] | str]:
        """Everything that the placeholders name; each thing is made once."""
        found: dict[str, Any] = dict(self.keys)
        found |= {f"TENANT_{letter}": tenant.key for letter, tenant in self.tenants.items()}
        found |= {
            "CSRF": self.csrf,
            "OPERATOR_PASSWORD": PASSWORD.replace(" ", "+"),
            "ADMIN_SESSION": cache(lambda: self.session("operator", "owner")),
            "ADMIN2_SESSION": cache(lambda: self.session("operator2", "owner")),
            "VIEWER_SESSION": cache(lambda: self.session("viewer", "viewer")),
            "MAPPING_A": cache(lambda: self._mapping("api_calls", "KEY_A")),
            "MAPPING_A2": cache(lambda: self._mapping("storage", "KEY_A")),
            "MAPPING_A_PUSHED": cache(self._pushed_mapping),
            "MAPPING_B": cache(lambda: self._mapping("api_calls", "KEY_B")),
            "BACKFILL_B": cache(self._backfill),
            "SIM_A": cache(lambda: self._scenario("KEY_A")),
            "SIM_B": cache(lambda: self._scenario("KEY_B")),
            "SIMRUN_B": cache(self._simulation_run),
            "ADJ_A": cache(self._adjustment),
            "ADJ_BY_OPERATOR": cache(lambda: self._adjustment(by_operator=True)),
            "WIDGET_A": cache(lambda: self._widget("KEY_A", "cus_t1")),
            "WIDGET_B": cache(lambda: self._widget("KEY_B", "cus_b1")),
            "WIDGET_A_EXPIRED": cache(lambda: self._widget_at(timedelta(hours=-25))),
            "WIDGET_A:iat=+10m": cache(lambda: self._widget_at(timedelta(minutes=10))),
            "WIDGET_A_OF_REVOKED_KEY": cache(self._orphan_widget),
        }
        return found

    def session(self, username: str, role: str) -> str:
        """The session key of an operator of tenant A who is logged in."""
        user = self.operator(username, role)
        session = SessionStore()
        session["_auth_user_id"] = str(user.pk)
        session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
        session["_auth_user_hash"] = user.get_session_auth_hash()
        session.save()
        return str(session.session_key)

    def operator(self, username: str, role: str) -> Any:
        """An operator with a role in tenant A."""
        users = get_user_model().objects
        user = users.filter(username=username).first()
        if user is None:
            user = users.create_user(username, password=PASSWORD, is_staff=True)
            Membership.objects.create(tenant=self.tenants["A"], user=user, role=role)
        return user

    def _id_of(self, answer: Any) -> str | None:
        return str(answer["id"]) if answer else None

    def _mapping(self, metric: str, key: str) -> str | None:
        return self._id_of(self.api("POST", "/v1/mappings", {
            "tenantId": self.tenants[key[4]].key, "metric": metric, "aggregation": "sum",
            "stripeAccount": "acct_1A" if key == "KEY_A" else "acct_1B",
            "priceId": f"price_{metric.replace('_', '')}{key[4]}",
        }, key=key))  # fmt: skip

    def _pushed_mapping(self) -> str | None:
        """A mapping with an acknowledged push in the open period."""
        made = self._mapping("requests", "KEY_A")
        if made is None:
            return None
        now, month = clock.now(), utc_month(clock.now())
        account, _ = StripeAccount.objects.get_or_create(account="acct_1A", mode="live")
        key: dict[str, Any] = {
            "tenant_id": self.tenants["A"].pk, "mapping_id": uuid.UUID(made),
            "customer_ref": "cus_t1", "period_start": month.start, "mode": "live",
        }  # fmt: skip
        PushCursor.objects.create(
            **key, period_end=month.end, next_sequence=2, held_at=now, held_reason="test"
        )
        PushSlice.objects.create(**key, day=now.date(), intended=7)
        Push.objects.create(
            **key, id=uuid.uuid4(), slice_day=now.date(), sequence=1, account=account,
            semantics="increment", target="requests", stripe_customer_id="cus_S1",
            identifier=f"test-{made}", value=7, delta=7, stamped_at=now, state="acknowledged",
            not_before=now, created_at=now, settled_at=now,
        )  # fmt: skip
        return made

    def _backfill(self) -> str | None:
        answer = self.api("POST", "/v1/events/backfill", {
            "tenantId": self.tenants["B"].key, "metric": "api_calls", "periodStart": "2026-01-01",
            "reason": CANARY, "events": [{
                "tenantId": self.tenants["B"].key, "metric": "api_calls", "customerRef": "cus_b1",
                "quantity": 1, "ts": "2026-01-01T00:00:00Z"}],
        }, key="KEY_B")  # fmt: skip
        return str(answer["operationId"]) if answer else None

    def _scenario(self, key: str) -> str | None:
        return self._id_of(self.api("POST", "/v1/simulations/scenarios", {
            "name": CANARY if key == "KEY_B" else "scenario", **_scenario_body(),
        }, key=key))  # fmt: skip

    def _simulation_run(self) -> str | None:
        scenario = {"name": CANARY, **_scenario_body()}
        answer = self.api("POST", "/v1/simulations/runs", {"scenario": scenario}, key="KEY_B")
        return str(answer["runId"]) if answer else None

    def _adjustment(self, *, by_operator: bool = False) -> str | None:
        if by_operator:
            made = create_adjustment(
                tenant_id=self.tenants["A"].pk, metric="api_calls", customer_ref="cus_t1",
                period_start=clock.now(), delta=decimal_of(5), reason="correction",
                actor="user:operator", now=clock.now(),
            )  # fmt: skip
            self.operator("operator", "owner")
            return str(made.pk)
        answer = self.api("POST", "/v1/adjustments", {
            "tenantId": self.tenants["A"].key, "metric": "api_calls", "customerRef": "cus_t1",
            "periodStart": datetime.now(UTC).strftime("%Y-%m-01"), "delta": 5,
            "reason": "correction", "requestId": str(uuid.uuid4()),
        })  # fmt: skip
        return self._id_of(answer) if answer and "id" in answer else None

    def _widget(self, key: str, customer: str) -> str | None:
        answer = self.api("POST", "/widget/tokens", {
            "tenantId": self.tenants[key[4]].key, "customerRef": customer,
            "origins": ["https://app.customer.example"],
        }, key=key)  # fmt: skip
        return str(answer["token"]) if answer else None

    def _widget_at(self, shift: timedelta) -> str:
        """A token of cus_t1 that was issued at another moment."""
        key = ApiKey.objects.get(lookup=self.keys["KEY_A"][8:20])
        tenant = self.tenants["A"]
        minted = sessions.mint_session(
            principal=Principal(tenant.pk, tenant.key, "test", frozenset(), key.pk),
            customer_ref="cus_t1",
            origins=["https://app.customer.example"],
            lifetime=sessions.LIFETIME_DEFAULT,
            metrics=None,
            now=clock.now() + shift,
        )
        return str(minted.token)

    def _orphan_widget(self) -> str | None:
        token = self._widget("KEY_A_OTHER", "cus_t1")
        ApiKey.objects.filter(lookup=self.keys["KEY_A_OTHER"][8:20]).update(revoked_at=clock.now())
        return token


def _scenario_body() -> dict[str, Any]:
    price = {"model": "flat", "currency": "USD", "unitPrice": 1}
    return {
        "model": price,
        "inputs": {
            "customerId": "c", "periodStart": "2026-01-01", "periodEnd": "2026-01-31",
            "usageItems": [{"metric": "api_calls", "quantity": 100, "priceConfig": price}],
        },
    }  # fmt: skip


def snapshot(prefixes: tuple[str, ...] = DOMAIN_PREFIXES) -> dict[str, tuple[int, int]]:
    """Row count and checksum of every table that a refused request must leave alone."""
    tables = [
        name
        for name in connection.introspection.table_names()
        if name.startswith(prefixes) and name not in os.environ.get("BADINPUTS_IGNORE", "")
    ]
    parts = [
        f"SELECT '{name}', count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)"
        f' FROM "{name}" t'
        for name in tables
    ]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        return {name: (rows, total) for name, rows, total in cursor.fetchall()}
