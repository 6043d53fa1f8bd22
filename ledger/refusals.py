"""How many events were refused lately, per tenant: counted in Redis, minute by minute.

For the operator's eye only: losing Redis loses the last hour of it. Nothing is written for a
request without refusals, so the hot path pays nothing.
"""

import contextlib
from datetime import datetime

import redis

from stripemeter.lib import redisclient

KEPT_MINUTES = 60


def _name(tenant_id: int, minute: int) -> str:
    return f"ingest-refused:{tenant_id}:{minute}"


def note(*, tenant_id: int, events: int, now: datetime) -> None:
    """Count ``events`` that were not stored because something is wrong with them."""
    if events < 1:
        return
    name = _name(tenant_id, int(now.timestamp()) // 60)
    with contextlib.suppress(redis.RedisError):
        pipe = redisclient.client().pipeline()
        pipe.incrby(name, events)
        pipe.expire(name, (KEPT_MINUTES + 1) * 60)
        pipe.execute()


def last_hour(*, tenant_id: int, now: datetime) -> int | None:
    """Events refused in the last hour; None while Redis does not answer."""
    minute = int(now.timestamp()) // 60
    names = [_name(tenant_id, minute - back) for back in range(KEPT_MINUTES)]
    try:
        return sum(int(count) for count in redisclient.client().mget(names) if count)
    except redis.RedisError:
        return None
