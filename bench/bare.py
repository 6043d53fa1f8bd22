"""The least that a Django service does with one event: decode, store once, answer.

The floor of single posts: the same server, the same shape of table and indexes, the floor's
statement; no API key, no limits, no outbox, no counters, no metrics.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import django
import msgspec
import psycopg
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from bench.ingest import FLOOR_INSERT
from ledger import packing
from ledger.wire import microseconds


class Event(msgspec.Struct):
    """One event of the load."""

    customerRef: str  # noqa: N815  wire name
    quantity: msgspec.Raw
    ts: datetime
    idempotencyKey: UUID  # noqa: N815  wire name
    meta: msgspec.Raw


class Body(msgspec.Struct):
    """A request."""

    events: list[Event]


def _database() -> dict[str, Any]:
    parts = urlsplit(os.environ["DATABASE_OWNER_URL"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": query["host"],
        "PORT": query["port"],
        "CONN_MAX_AGE": None,
        "OPTIONS": {"prepare_threshold": 2},
    }


def ingest(request: HttpRequest) -> HttpResponse:
    """Store the one event of the body."""
    [event] = _decoder.decode(request.body).events
    key = [event.idempotencyKey.bytes]
    values = [
        1,
        1,
        datetime.now(UTC),
        packing.timestamps([microseconds(event.ts)]),
        packing.uuids(key),
        packing.uuids(key),
        packing.int4s([1]),
        packing.texts([event.customerRef]),
        packing.numerics([bytes(event.quantity).decode()]),
        packing.texts([str(event.idempotencyKey)]),
        packing.jsonbs([bytes(event.meta)]),
    ]
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    cursor.execute(FLOOR_INSERT, values)
    answer = b'{"accepted":%d}' % cursor.rowcount
    headers = {"Content-Length": str(len(answer)), "Content-Type": "application/json"}
    return HttpResponse(answer, headers=headers)


_decoder = msgspec.json.Decoder(Body)
urlpatterns = [path("v1/events/ingest", ingest)]
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[],
    DATABASES={"default": _database()},
    USE_TZ=True,
)
django.setup()
application = get_wsgi_application()
