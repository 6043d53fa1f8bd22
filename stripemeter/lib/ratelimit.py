"""Rate limits: a bucket of tokens per window, shared by all processes, cheap to take from.

A bucket is filled when it is first used and again when its window ends, so that "N in one
window" means exactly that. Redis holds the buckets; each process leases tokens in chunks
that shrink as a bucket empties, so most requests cost no round trip. Without Redis, or when
it is slow, each process limits on its own: at most processes x limit, never "no limit".
"""

import math
import threading
import time
from dataclasses import dataclass

import redis

from stripemeter.lib import redisclient
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

LEASE_TOKENS_MAX = 64
#: A lease is at most this share of what is left, so that little is stranded in a process.
LEASE_SHARE = 16
BUCKETS_MAX = 20_000
CIRCUIT_OPEN_SECONDS = 5.0

# Grants max(cost, min(lease, remaining/share)) tokens, never more than remain. The window
# starts with the bucket's first use and its key ends with it, set together (no key can
# stay behind without an end).
_TAKE = """
local used = tonumber(redis.call('GET', KEYS[1]) or '-1')
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local left = redis.call('PTTL', KEYS[1])
if used < 0 or left < 0 then
  used, left = 0, window
  redis.call('SET', KEYS[1], 0, 'PX', window)
end
local remaining = limit - used
if remaining < cost then return {0, remaining, left} end
local lease = math.min(tonumber(ARGV[4]), math.floor(remaining / tonumber(ARGV[5])))
local grant = math.max(cost, lease)
redis.call('INCRBY', KEYS[1], grant)
return {grant, remaining - grant, left}
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may go on, and what its ``RateLimit-*`` headers say."""

    allowed: bool
    limit: int
    remaining: int
    #: Whole seconds until the bucket is full again, at least 1.
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """``RateLimit-*``, and ``Retry-After`` on a refusal."""
        found = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }
        if not self.allowed:
            found["Retry-After"] = str(self.reset_seconds)
        return found


@dataclass(slots=True)
class _Bucket:
    """What this process knows of one bucket."""

    tokens: int
    #: Tokens left in Redis after the last lease; in local mode always 0.
    elsewhere: int
    ends_at: float
    is_local: bool


class Limiter:
    """All buckets of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._circuit_open_until = 0.0

    def take(self, name: str, *, limit: int, window_seconds: int, cost: int = 1) -> Verdict:
        """Take ``cost`` tokens from bucket ``name``, which holds ``limit`` a window."""
        moment = time.monotonic()
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is not None and moment < bucket.ends_at:
                if bucket.tokens >= cost:
                    bucket.tokens -= cost
                    return self._verdict(bucket, limit, moment, allowed=True)
                if bucket.is_local or bucket.elsewhere + bucket.tokens < cost:
                    return self._verdict(bucket, limit, moment, allowed=False)
        return self._lease(name, limit, window_seconds, cost, moment)

    def refill(self, name: str) -> None:
        """Start bucket ``name`` anew: what it counted has turned out to be harmless."""
        with self._lock:
            self._buckets.pop(name, None)
        try:
            redisclient.client().delete(f"ratelimit:{name}")
        except redis.RedisError as error:
            log.warning("ratelimit.local", reason=type(error).__name__)

    def forget(self) -> None:
        """Drop what this process knows (tests)."""
        with self._lock:
            self._buckets.clear()
            self._circuit_open_until = 0.0

    def _lease(self, name: str, limit: int, window: int, cost: int, moment: float) -> Verdict:
        granted, remaining, ends_at, is_local = self._ask(name, limit, window, cost, moment)
        with self._lock:
            if len(self._buckets) >= BUCKETS_MAX:
                self._buckets = {n: b for n, b in self._buckets.items() if moment < b.ends_at}
            bucket = self._buckets.get(name)
            if bucket is None or moment >= bucket.ends_at or bucket.is_local != is_local:
                bucket = self._buckets[name] = _Bucket(0, remaining, ends_at, is_local)
            bucket.tokens += granted
            bucket.elsewhere = remaining
            allowed = bucket.tokens >= cost
            if allowed:
                bucket.tokens -= cost
            return self._verdict(bucket, limit, moment, allowed=allowed)

    def _ask(
        self, name: str, limit: int, window: int, cost: int, moment: float
    ) -> tuple[int, int, float, bool]:
        if moment >= self._circuit_open_until:
            try:
                granted, remaining, left_ms = self._from_redis(name, limit, window, cost)
                return granted, max(remaining, 0), moment + left_ms / 1000, False
            except redis.RedisError as error:
                self._circuit_open_until = moment + CIRCUIT_OPEN_SECONDS
                log.warning("ratelimit.local", reason=type(error).__name__)
        return limit, 0, moment + window, True

    @staticmethod
    def _from_redis(name: str, limit: int, window: int, cost: int) -> tuple[int, int, int]:
        answer = redisclient.client().eval(
            _TAKE,
            1,
            f"ratelimit:{name}",
            str(limit),
            str(window * 1000),
            str(cost),
            str(LEASE_TOKENS_MAX),
            str(LEASE_SHARE),
        )
        granted, remaining, left_ms = answer
        return int(granted), int(remaining), int(left_ms)

    @staticmethod
    def _verdict(bucket: _Bucket, limit: int, moment: float, *, allowed: bool) -> Verdict:
        return Verdict(
            allowed=allowed,
            limit=limit,
            remaining=bucket.tokens + bucket.elsewhere if allowed else 0,
            reset_seconds=max(1, math.ceil(bucket.ends_at - moment)),
        )


limiter = Limiter()
