"""The process's one Redis client: never waits longer than a quarter of a second.

Redis holds nothing that cannot be thrown away, so every caller has a way on without it.
"""

from functools import cache

import redis
from django.conf import settings

TIMEOUT_SECONDS = 0.25


@cache
def client() -> redis.Redis:
    """A thread-safe client with short time-outs and no retries."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=None,
        retry_on_timeout=False,
        health_check_interval=0,
    )


def answers() -> bool:
    """Whether Redis answers a PING in time."""
    try:
        return bool(client().ping())
    except redis.RedisError:
        return False
