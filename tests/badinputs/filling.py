"""Fills placeholders and builds generated bodies, as the catalogue's head describes them."""

import gzip
import hashlib
import hmac
import json
import random
import re
import secrets
import string
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from django.conf import settings
from django.core import signing

PLACEHOLDER = re.compile(r"\{\{([A-Z][A-Z0-9_]*)([-+][0-9]+[a-z]*)?(?::((?:[^{}])*))?\}\}")
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NotBuilt(Exception):
    """A placeholder names an object of an area that does not exist yet."""


def _shift(text: str | None) -> timedelta:
    if not text:
        return timedelta(0)
    match = re.fullmatch(r"([-+][0-9]+)([a-z]?)", text)
    assert match, text
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _rfc3339(moment: datetime, variant: str | None) -> str:
    if variant and variant.startswith("offset="):
        sign = -1 if variant[7] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(variant[8:10]), minutes=int(variant[11:13])))
        return moment.astimezone(zone).isoformat(timespec="seconds")
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if variant == "lower":
        return text.lower().replace("T", "t") + "z"
    if variant == "nanos":
        return f"{text}.123456789Z"
    return f"{text}Z"


class Filler:
    """Fills one message; ``values`` holds what the world knows, fresh things are made here."""

    def __init__(self, values: dict[str, Callable[[], str] | str], base: str) -> None:
        self.values = values
        self.base = base
        self.sends = 0
        self.t0 = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)

    def fill(self, text: str) -> str:
        """``text`` with every placeholder but the signature filled (that needs the body)."""
        return PLACEHOLDER.sub(self._one, text)

    def _one(self, match: re.Match[str]) -> str:
        name, shift, option = match.groups()
        if name == "STRIPE_SIG":
            return match.group(0)
        fresh = getattr(self, f"_{name.lower()}", None)
        if fresh is not None:
            return str(fresh(shift, option))
        made = f"{name}:{option}"
        if made in self.values:
            name, option = made, None
        value = self.values.get(name)
        if callable(value):
            value = value()
        if value is None:
            raise NotBuilt(name)
        return self._variant(str(value), option)

    @staticmethod
    def _variant(value: str, option: str | None) -> str:
        if not option:
            return value
        if option == "flip_last":
            return value[:-1] + ("0" if value[-1] != "0" else "1")
        if option == "prefix_only":
            return value[:8]
        if option == "nohyphen":
            return value.replace("-", "")
        if option == "flip_payload":
            head, _, rest = value.partition(".")
            return head[:-1] + ("A" if head[-1] != "A" else "B") + "." + rest
        if option == "no_signature":
            return value.rpartition(".")[0]
        raise NotBuilt(f"variant {option}")

    def _now(self, shift: str | None, option: str | None) -> str:
        return _rfc3339(datetime.now(UTC) + _shift(shift), option)

    def _t0(self, shift: str | None, option: str | None) -> str:
        return _rfc3339(self.t0 + _shift(shift), option)

    def _epoch(self, shift: str | None, _: str | None) -> int:
        return int((datetime.now(UTC) + _shift(shift)).timestamp())

    def _uuid(self, *_: Any) -> str:
        return str(uuid.uuid4())

    def _rand(self, *_: Any) -> str:
        return secrets.token_hex(8)

    def _i(self, *_: Any) -> int:
        return self.sends

    def _random_key(self, *_: Any) -> str:
        return "sm_live_" + "".join(random.choices(string.ascii_letters, k=61))

    def _random_ip(self, *_: Any) -> str:
        return f"198.51.{random.randrange(256)}.{random.randrange(256)}"

    def _repeat(self, _: str | None, option: str | None) -> str:
        text, _, times = (option or "").replace("\\,", "\0").rpartition(",")
        return text.replace("\0", ",") * int(times)

    def _chunked(self, _: str | None, option: str | None) -> str:
        parts = dict(part.split("=", 1) for part in (option or "").split(","))
        piece = f"{len(parts['repeat']):x}\r\n{parts['repeat']}\r\n"
        return piece * int(parts["times"]) + "0\r\n\r\n"

    def _curly(self, *_: Any) -> str:
        return "{{"

    def _curlyend(self, *_: Any) -> str:
        return "}}"

    def _host(self, *_: Any) -> str:
        return self.base.removeprefix("http://")

    def _base(self, *_: Any) -> str:
        return self.base

    def _django_signed(self, _: str | None, option: str | None) -> str:
        payload = {"tenant": self.values.get("TENANT_A"), "customerRef": "cus_t1"}
        return signing.dumps(payload, salt=option or "")

    # --- bodies ------------------------------------------------------------------------

    def generated(self, how: dict[str, Any]) -> bytes:
        """The body that ``how`` describes."""
        op = how["op"]
        if op == "events":
            return self._events(how["count"])
        if op == "gzip":
            return gzip.compress(self.fill(how["repeat"] * how["times"]).encode())
        if op == "headers":
            return b""
        template = self.fill(how["template"])
        if op == "template":
            for letter in "XYZ":
                if letter in how:
                    piece = self.fill(how[letter]["repeat"]) * how[letter]["times"]
                    template = template.replace(f"<<{letter}>>", piece)
            return template.encode()
        if op == "pad_to":
            wanted = how["bytes"]
            if isinstance(wanted, str):
                wanted = settings.INGEST_BODY_LIMIT_BYTES + int(wanted[10:] or 0)
            room = wanted - len(template.encode()) + len("<<X>>")
            return template.replace("<<X>>", "x" * room).encode()
        if op == "keys":
            members = ",".join(f'"k{n}":1' for n in range(1, how["count"] + 1))
            return template.replace("<<X>>", members).encode()
        assert op == "list", op
        item, sep = self.fill(how["item"]), how.get("sep", ",")
        joined = sep.join(item.replace("<<i>>", str(n)) for n in range(1, how["count"] + 1))
        return template.replace("<<X>>", joined).encode()

    def _events(self, count: int) -> bytes:
        event = {
            "tenantId": self.values["TENANT_A"], "metric": "api_calls", "customerRef": "cus_t1",
            "quantity": 1, "ts": self._now("-1h", None),
        }  # fmt: skip
        events = [event | {"idempotencyKey": str(uuid.uuid4())} for _ in range(count)]
        return json.dumps({"events": events}).encode()

    # --- Stripe's signature --------------------------------------------------------------

    def sign(self, text: str, body: bytes) -> str:
        """``text`` with its STRIPE_SIG filled for the exact bytes of ``body``."""

        def one(match: re.Match[str]) -> str:
            options = dict(part.split("=", 1) for part in (match.group(3) or "").split(",") if part)
            return _signature(options, body)

        return PLACEHOLDER.sub(one, text)


def _signature(options: dict[str, str], body: bytes) -> str:
    stamp = int(datetime.now(UTC).timestamp()) + int(options.get("skew", "0"))
    signed = body
    if options.get("of") == "original":
        signed = body.replace(b"in_2", b"in_1")
    if options.get("of") == "reserialized":
        signed = json.dumps(json.loads(body), indent=1).encode()
    secret = settings.STRIPE_WEBHOOK_SECRETS[0] if settings.STRIPE_WEBHOOK_SECRETS else "whsec_x"

    def digest(key: str) -> str:
        content = str(options.get("t", stamp)).encode() + b"." + signed
        return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()

    right = digest("whsec_wrong" if options.get("secret") == "wrong" else secret)
    if options.get("hex") == "upper":
        right = right.upper()
    if "truncate" in options:
        right = right[: int(options["truncate"])]
    scheme = options.get("scheme", "v1")
    if options.get("both"):
        return f"t={stamp},v1={digest('whsec_wrong')},v1={right}"
    return f"t={options.get('t', stamp)},{scheme}={right}"
