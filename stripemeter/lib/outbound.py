"""Posts to addresses that tenants name, without becoming their way into our network.

The host is resolved once, every address it has must be a public one, and the connection goes to
the address that was checked: a name that answers differently the second time gains nothing.
Redirects are not followed and proxies of the environment not read.
"""

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from django.conf import settings

CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
ANSWER_BYTES_MAX = 1_024
URL_CHARS_MAX = 2_000
#: IPv6 prefixes that carry an IPv4 address somewhere else: NAT64, 6to4, Teredo.
_CARRIERS = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16",
                                             "2001::/32")
)  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """The address may not be posted to; the message says why and is shown to the tenant."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, or why nothing did (``status`` is then None)."""

    status: int | None
    error: str
    body: str
    duration_ms: int

    @property
    def is_success(self) -> bool:
        """A 2xx."""
        return self.status is not None and 200 <= self.status < 300


def check_url(url: str) -> None:
    """Refuse what can never be posted to, without resolving it. Raises `Refused`."""
    _parts(url)


def _parts(url: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path with query)."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or any(ord(sign) <= 32 for sign in url):
        raise Refused(f"must be plain ASCII of at most {URL_CHARS_MAX} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused("is not a URL") from error
    schemes = {"https", "http"} if settings.WEBHOOK_ALLOW_PRIVATE else {"https"}
    if parts.scheme not in schemes:
        raise Refused("must start with https://")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise Refused("must name a host and no user")
    if parts.fragment or "\\" in url:
        raise Refused("must have no fragment and no backslash")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    literal = _literal(parts.hostname)
    if literal is not None:
        _require_public(literal)
    elif "." not in parts.hostname and not settings.WEBHOOK_ALLOW_PRIVATE:
        raise Refused("must name a public host")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _require_public(address: Address) -> None:
    if settings.WEBHOOK_ALLOW_PRIVATE:
        return
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in network for network in _CARRIERS):
            raise Refused("resolves to an address that stands for another")
    if not address.is_global or address.is_multicast or address.is_reserved:
        raise Refused("resolves to an address that is not public")


def resolve(host: str, port: int) -> str:
    """The address to connect to. Raises `Refused` unless every address of ``host`` is public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Refused("does not resolve") from error
    addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in found]
    if not addresses:
        raise Refused("does not resolve")
    for address in addresses:
        _require_public(address)
    return str(addresses[0])


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST ``body`` as JSON. Never raises for what the receiver or the network does."""
    started = time.monotonic()

    def answer(status: int | None, error: str = "", text: str = "") -> Answer:
        return Answer(status, error[:500], text, int((time.monotonic() - started) * 1_000))

    try:
        scheme, host, port, path = _parts(url)
        address = resolve(host, port)
        shown = f"[{address}]" if ":" in address else address
        name = f"[{host}]" if ":" in host else host
        default = port == (443 if scheme == "https" else 80)
        with (
            httpx.Client(
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            ) as client,
            client.stream(
                "POST",
                f"{scheme}://{shown}:{port}{path}",
                content=body,
                headers={
                    **headers,
                    "Host": name if default else f"{name}:{port}",
                    "Content-Type": "application/json",
                    "User-Agent": "StripeMeter-Webhooks/1.0",
                },
                extensions={"sni_hostname": host},
            ) as response,
        ):
            text = _start_of(response, started)
            status = response.status_code
            error = "" if 200 <= status < 300 else f"answered {status}"
            return answer(status, error, text)
    except Refused as error:
        return answer(None, f"not sent: {error}")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return answer(None, f"{type(error).__name__}: {error}")


def _start_of(response: httpx.Response, started: float) -> str:
    """The first kilobyte of the answer; the rest is not read."""
    found = b""
    for chunk in response.iter_raw(ANSWER_BYTES_MAX):
        found += chunk
        if len(found) >= ANSWER_BYTES_MAX or time.monotonic() - started > READ_SECONDS:
            break
    text = found[:ANSWER_BYTES_MAX].decode("utf-8", "replace")
    return "".join(sign if sign.isprintable() else " " for sign in text)
