"""Reads the bodies of ingest requests into columns.

Two readers, one meaning. The strict reader defines what is accepted and names every fault.
The fast reader takes only bodies that it can prove the strict reader would accept, and
gives up on the first doubt (a backslash, a repeated name, an unusual character, a long
fraction); a property test holds the two equal. At 1,000 events a batch the fast reader
costs a tenth of the strict one.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, cast

import msgspec

from stripemeter.lib import instants, strictjson, text
from stripemeter.lib.decimals import NotANumber, decimal_of, digits_and_decimals, plain
from stripemeter.lib.errors import FieldError, Forbidden, InvalidRequest

SOURCES = frozenset({"sdk", "http", "etl", "import", "system"})
META_DEPTH_MAX = 16
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_QUANTITY_CACHE_MAX = 50_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one event may carry."""

    batch_max: int
    meta_bytes_max: int
    quantity_digits_max: int
    quantity_decimals_max: int
    #: Canonical text of quantities seen before, by their JSON text.
    quantities: dict[bytes, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(slots=True)
class Columns:
    """Events as columns, in input order. Quantities are canonical decimal text, ``ts_us`` is
    microseconds since 2000-01-01 UTC, ``metas`` canonical JSON or None."""

    metrics: list[str] = field(default_factory=list)
    customers: list[str] = field(default_factory=list)
    resources: list[str | None] = field(default_factory=list)
    quantities: list[str] = field(default_factory=list)
    ts_us: list[int] = field(default_factory=list)
    metas: list[bytes | None] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.metrics)

    def add(self, event: "StrictEvent") -> None:
        """Append one event."""
        self.metrics.append(event.metric)
        self.customers.append(event.customer_ref)
        self.resources.append(event.resource_id)
        self.quantities.append(event.quantity)
        self.ts_us.append(event.ts_us)
        self.metas.append(event.meta)
        self.sources.append(event.source)
        self.keys.append(event.key)


@dataclass(frozen=True, slots=True)
class StrictEvent:
    """One validated event."""

    metric: str
    customer_ref: str
    resource_id: str | None
    quantity: str
    ts_us: int
    meta: bytes | None
    source: str
    key: str | None


def microseconds(instant: datetime) -> int:
    """Whole microseconds from 2000-01-01 UTC to ``instant``."""
    delta = instant - EPOCH
    return delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds


def quantity_problem(number: Decimal, limits: Limits) -> str | None:
    """Why ``number`` is no event quantity; None if it is one."""
    if number < 0 or (number == 0 and number.is_signed()):
        return "must not be negative; corrections downwards are adjustments (POST /v1/adjustments)"
    if abs(number.adjusted()) > limits.quantity_digits_max:
        return f"must have at most {limits.quantity_digits_max} significant digits"
    digits, decimals = digits_and_decimals(number)
    if digits > limits.quantity_digits_max:
        return f"must have at most {limits.quantity_digits_max} significant digits"
    if decimals > limits.quantity_decimals_max:
        return f"must have at most {limits.quantity_decimals_max} digits after the point"
    return None


# --- The fast reader ------------------------------------------------------------------

_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=text.REFERENCE_CHARS_MAX)]


class _FastEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    tenantId: str  # noqa: N815  wire name
    metric: str
    customerRef: _Short  # noqa: N815
    quantity: msgspec.Raw
    ts: str
    resourceId: _Short | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    meta: msgspec.Raw = msgspec.Raw()
    idempotencyKey: _Short | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    source: str | msgspec.UnsetType = msgspec.UNSET


class _FastBatch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[_FastEvent]


_fast_decoder = msgspec.json.Decoder(_FastBatch)
_FAST_TS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_FAST_QUANTITY = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_LONG_NUMBER = re.compile(rb"[0-9]{300}")
_BRACKETS = re.compile(rb"[{\[]")


class _Doubt(Exception):
    """The strict reader has to decide."""


def _plain_number(digits: str) -> Decimal:
    number = Decimal(digits)
    if abs(number.adjusted()) > 400:
        raise _Doubt
    return Decimal(plain(number))


_meta_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_plain_number)
_meta_encoder = msgspec.json.Encoder(order="sorted", decimal_format="number")


def _fast_quantities(raws: list[bytes], limits: Limits) -> list[str]:
    found = list(map(limits.quantities.get, raws))
    if None not in found:
        return cast(list[str], found)
    return [
        _fast_quantity(raw, limits) if known is None else known
        for raw, known in zip(raws, found, strict=True)
    ]


def _fast_quantity(raw: bytes, limits: Limits) -> str:
    if not _FAST_QUANTITY.fullmatch(raw) or len(raw) > 40:
        raise _Doubt
    number = Decimal(raw.decode("ascii"))
    if quantity_problem(number, limits):
        raise _Doubt
    if len(limits.quantities) >= _QUANTITY_CACHE_MAX:
        limits.quantities.clear()
    canonical = limits.quantities[raw] = plain(number)
    return canonical


def read_fast(body: bytes, *, tenant_key: str, limits: Limits) -> Columns | None:
    """The columns of a plain native batch, or None if the strict reader has to decide."""
    if b"\\" in body or b"\x7f" in body or _has_space_before_colon(body):
        return None
    try:
        return _read_fast(body, tenant_key, limits)
    except (_Doubt, msgspec.DecodeError, ValueError, RecursionError):
        return None


def _has_space_before_colon(body: bytes) -> bool:
    """Names are counted by their quote and colon, so these must stand together."""
    # Looking for one byte first is ten times cheaper than looking for two.
    return b" :" in body or any(s in body and s + b":" in body for s in (b"\t", b"\n", b"\r"))


def _read_fast(body: bytes, tenant_key: str, limits: Limits) -> Columns:
    events = _fast_decoder.decode(body).events
    count = len(events)
    if not 0 < count <= limits.batch_max or {event.tenantId for event in events} != {tenant_key}:
        raise _Doubt
    unset = msgspec.UNSET
    resources = [event.resourceId for event in events]
    keys = [event.idempotencyKey for event in events]
    sources = [event.source for event in events]
    present = 3 * count - resources.count(unset) - keys.count(unset) - sources.count(unset)
    metas, meta_names = _fast_metas([event.meta for event in events])
    # Without a backslash in the body a quote followed by a colon ends a member name, so a
    # repeated name (which a parser would silently drop) makes this count too large.
    if body.count(b'":') != 1 + 5 * count + present + meta_names:
        raise _Doubt
    texts = [event.ts for event in events]
    instants_us = {instant: _fast_ts(instant) for instant in set(texts)}
    columns = Columns(
        metrics=[event.metric for event in events],
        customers=[event.customerRef for event in events],
        resources=[None if resource is unset else resource for resource in resources],
        quantities=_fast_quantities([bytes(event.quantity) for event in events], limits),
        ts_us=[instants_us[instant] for instant in texts],
        metas=metas,
        sources=["http" if source is unset else source for source in sources],
        keys=[None if key is unset else key for key in keys],
    )
    _doubt_unusual_text(columns)
    return columns


def _fast_ts(ts: str) -> int:
    if not _FAST_TS.fullmatch(ts):
        raise _Doubt
    return microseconds(datetime.fromisoformat(ts))


def _fast_metas(raws: list[msgspec.Raw]) -> tuple[list[bytes | None], int]:
    """Canonical metas, and how many member names they and their fields have in all."""
    if len(max(raws, key=len)) > 300 and any(map(_LONG_NUMBER.search, raws)):
        raise _Doubt
    decode, encode = _meta_decoder.decode, _meta_encoder.encode
    metas: list[bytes | None] = [encode(decode(raw)) if raw else None for raw in raws]
    present = [meta for meta in metas if meta is not None]
    together = b"".join(present)
    # The encoder writes no backslash for what was read without one, so quotes still end names.
    names = len(present) + together.count(b'":')
    opened = len(_BRACKETS.findall(together)) if b"[" in together else together.count(b"{")
    if opened != len(present):
        _doubt_deep(present)
    return metas, names


def _doubt_deep(metas: list[bytes]) -> None:
    """Doubt nesting that might be too deep; a bracket within a text counts as well."""
    if any(len(_BRACKETS.findall(meta)) > META_DEPTH_MAX for meta in metas):
        raise _Doubt


def _doubt_unusual_text(columns: Columns) -> None:
    """Doubt any reference that is blank or holds a character that does not print."""
    present = [value for value in columns.resources if value is not None]
    present += [value for value in columns.keys if value is not None]
    for values in (columns.customers, present):
        if not "".join(values).isprintable() or any(map(str.isspace, values)):
            raise _Doubt
    if not all(map(text.METRIC_NAME.fullmatch, set(columns.metrics))):
        raise _Doubt
    if not SOURCES.issuperset(columns.sources):
        raise _Doubt


# --- The strict reader ----------------------------------------------------------------

_FIELDS = frozenset(
    {
        "tenantId",
        "metric",
        "customerRef",
        "quantity",
        "ts",
        "resourceId",
        "meta",
        "idempotencyKey",
        "source",
    }
)
_REQUIRED = ("tenantId", "metric", "customerRef", "quantity", "ts")


class _Faults:
    """Collects what is wrong with one event of a batch."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.found: list[FieldError] = []

    def note(self, name: str, code: str, detail: str) -> None:
        self.found.append(FieldError(code, f"{name} {detail}", name, self.position))


def _strict_quantity(value: Any, faults: _Faults, limits: Limits) -> str:
    # An exponent in a string is refused: "1e3" is a typing error more often than 1,000.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII):
        faults.note("quantity", "invalid_quantity", "must be a JSON number or plain digits")
        return "0"
    try:
        number = decimal_of(value)
    except NotANumber:
        faults.note("quantity", "invalid_quantity", "must be a JSON number")
        return "0"
    problem = quantity_problem(number, limits)
    if problem:
        faults.note("quantity", "invalid_quantity", problem)
        return "0"
    return plain(number)


def _depth(value: Any) -> int:
    members: list[Any] = []
    if isinstance(value, dict):
        members = list(value.values())
    elif isinstance(value, list):
        members = value
    else:
        return 0
    return 1 + max((_depth(member) for member in members), default=0)


def _strict_meta(value: Any, faults: _Faults) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        faults.note("meta", "invalid_meta", "must be an object")
        return None
    if _depth(value) > META_DEPTH_MAX:
        faults.note("meta", "invalid_meta", f"may nest at most {META_DEPTH_MAX} levels")
        return None
    return strictjson.dumps_sorted(value)


def _strict_reference(event: dict[str, Any], name: str, faults: _Faults) -> str | None:
    value = event.get(name)
    if value is None:
        return None
    problem = text.reference_problem(value)
    if problem:
        faults.note(name, "invalid_reference", problem)
        return None
    return str(value)


def strict_event(event: Any, *, index: int, limits: Limits) -> StrictEvent | list[FieldError]:
    """The validated event, or everything that is wrong with it."""
    faults = _Faults(index)
    if not isinstance(event, dict):
        return [FieldError(code="wrong_type", detail="must be an object", index=index)]
    for name in event.keys() - _FIELDS:
        faults.note(str(name)[:100], "unknown_field", "is not a field of an event")
    for name in _REQUIRED:
        if event.get(name) is None:
            faults.note(name, "required", "is required")
    if faults.found:
        return faults.found
    if text.metric_problem(event["metric"]):
        faults.note("metric", "invalid_metric", text.metric_problem(event["metric"]) or "")
    customer = _strict_reference(event, "customerRef", faults)
    resource = _strict_reference(event, "resourceId", faults)
    key = _strict_reference(event, "idempotencyKey", faults)
    quantity = _strict_quantity(event["quantity"], faults, limits)
    meta = _strict_meta(event.get("meta"), faults)
    source = event.get("source")
    if source is not None and (not isinstance(source, str) or source not in SOURCES):
        faults.note("source", "invalid_choice", f"must be one of {', '.join(sorted(SOURCES))}")
    ts_us = 0
    try:
        ts_us = microseconds(instants.parse_instant(event["ts"]))
    except instants.InvalidInstant as error:
        faults.note("ts", "invalid_instant", str(error))
    if faults.found or customer is None:
        return faults.found
    return StrictEvent(
        metric=event["metric"],
        customer_ref=customer,
        resource_id=resource,
        quantity=quantity,
        ts_us=ts_us,
        meta=meta,
        source=source or "http",
        key=key,
    )


def read_strict(document: Any, *, tenant_key: str, limits: Limits) -> Columns:
    """The columns of a parsed native document ``{"events": [...]}``.

    Raises `Forbidden` if an event names another tenant, `InvalidRequest` with one entry per
    fault otherwise: a malformed event refuses its whole batch, so nothing is half stored.
    """
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be an object with a list of events.")
    unknown = document.keys() - {"events"}
    if unknown:
        name = str(min(unknown))[:100]
        raise InvalidRequest(
            f"{name} is not a field of an ingest request",
            errors=[FieldError("unknown_field", f"{name} is not a field of this request", name)],
        )
    events = document.get("events")
    if not isinstance(events, list) or not events:
        raise InvalidRequest(
            "events must be a non-empty list.",
            errors=[FieldError("required", "events must be a non-empty list", "events")],
        )
    if len(events) > limits.batch_max:
        detail = f"Batch too large: {len(events)} > {limits.batch_max}"
        too_many = FieldError("batch_too_large", detail, "events", -1)
        raise InvalidRequest(detail, code="batch_too_large", errors=[too_many])
    return _read_events(events, tenant_key, limits)


def _read_events(events: list[Any], tenant_key: str, limits: Limits) -> Columns:
    columns = Columns()
    faults: list[FieldError] = []
    foreign = False
    for index, event in enumerate(events):
        tenant = event.get("tenantId") if isinstance(event, dict) else None
        if tenant is not None and (not isinstance(tenant, str) or not tenant):
            faults.append(FieldError("invalid_tenant", "must be a tenant id", "tenantId", index))
            continue
        foreign = foreign or (tenant is not None and tenant != tenant_key)
        found = strict_event(event, index=index, limits=limits)
        if isinstance(found, StrictEvent):
            columns.add(found)
        else:
            faults += found
    if foreign:
        raise Forbidden("Mismatched tenantId in events", code="tenant_mismatch")
    if faults:
        first = faults[0]
        raise InvalidRequest(f"events[{first.index}]: {first.detail}", errors=faults[:1000])
    return columns
