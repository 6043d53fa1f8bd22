"""How bytes reach Stripe: one pooled, keep-alive HTTP client under the SDK.

The SDK's own client goes through `requests`, which costs more CPU a call than all of our
bookkeeping; this one hands the SDK's request to urllib3 as it stands. No retries, no
redirects, no proxy of the environment: each of them would hide what became of a push.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import stripe
import urllib3
from stripe import APIConnectionError

CONNECT_SECONDS = 3
READ_SECONDS = 10
POOL_CONNECTIONS = 64


class PooledClient(stripe.HTTPClient):
    """The SDK's HTTP client on one `urllib3.PoolManager`, shared by all threads."""

    name = "urllib3"

    def __init__(self, *, connect: float = CONNECT_SECONDS, read: float = READ_SECONDS) -> None:
        super().__init__()
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=POOL_CONNECTIONS,
            timeout=urllib3.Timeout(connect=connect, read=read),
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=stripe.ca_bundle_path,
        )

    def request(  # type: ignore[override]  # the SDK's subclasses leave `_usage` out, too
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Body, status and headers of the answer. Raises `stripe.APIConnectionError`."""
        try:
            answer = self._pool.request(
                method.upper(), url, body=post_data, headers=dict(headers or {}), redirect=False
            )
        except Exception as error:  # whatever failed, the outcome is unknown
            _refuse(error)
        return answer.data, answer.status, answer.headers

    def close(self) -> None:
        """Close every kept connection."""
        self._pool.clear()


def _refuse(error: Exception) -> NoReturn:
    message = f"No answer from Stripe (network error: {type(error).__name__}: {error})"
    raise APIConnectionError(message, should_retry=False) from error  # type: ignore[no-untyped-call]
