"""The fast reader never accepts what the strict reader would read otherwise."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ledger import packing, wire
from stripemeter.lib import strictjson
from stripemeter.lib.errors import ProblemError
from tests.builders.ledger import LIMITS

_text = st.one_of(
    st.sampled_from(["cus_1", "a", "", " ", "ä\u00a0", "x" * 255, "x" * 256, "a\u202eb", "\u2028"]),
    st.text(max_size=6),
)
_number = st.one_of(
    st.sampled_from(["0", "1", "-0", "-1", "1.50", "1e3", "1E-2", "0.0000001", "1" * 16, "1" * 41]),
    st.decimals(0, 10**6, places=6).map(str),
    st.integers(0, 10**15).map(str),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_instant = st.sampled_from(
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.123456Z",
        "2026-01-31T12:00:00.1Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00+02:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00.1234567Z",
        "2026-01-31",
    ]
)
_event = st.fixed_dictionaries(
    {
        "tenantId": st.sampled_from(['"acme"'] * 9 + ['"globex"']),
        "metric": st.sampled_from(["api_calls", "a.b", "no space", ""]).map(json.dumps),
        "customerRef": _text.map(lambda text: json.dumps(text, ensure_ascii=False)),
        "quantity": _number,
        "ts": _instant.map(json.dumps),
    },
    optional={
        "resourceId": _text.map(lambda text: json.dumps(text, ensure_ascii=False)),
        "meta": _json.map(lambda value: json.dumps(value, ensure_ascii=False))
        | st.sampled_from(
            ['{"a":1,"a":2}', '{"a":1,"a" :2}', '{"a":1.50}', '{"a":1e999}', "null", '{"a":1e-7}']
        ),
        "idempotencyKey": _text.map(lambda text: json.dumps(text, ensure_ascii=False)),
        "source": st.sampled_from(['"sdk"', '"etl"', '"nowhere"', "null"]),
        "extra": st.just("1"),
    },
)


def _body(events: list[dict[str, str]], repeat: bool) -> bytes:
    texts = []
    for event in events:
        members = [f'"{name}":{value}' for name, value in event.items()]
        if repeat:
            members.append(f'"quantity":{event["quantity"]}')
        texts.append("{" + ",".join(members) + "}")
    return ('{"events":[' + ",".join(texts) + "]}").encode("utf-8", "surrogatepass")


def _strictly(body: bytes) -> Any:
    try:
        return wire.read_strict(strictjson.loads(body), tenant_key="acme", limits=LIMITS)
    except (ProblemError, strictjson.InvalidJSON) as error:
        return error


@settings(max_examples=400)
@given(
    st.lists(_event, min_size=1, max_size=3), st.booleans(), st.binary(max_size=2), st.integers()
)
@example([], False, b"", 0)
def test_what_the_fast_reader_takes_the_strict_one_reads_alike(
    events: list[dict[str, str]], repeat: bool, noise: bytes, at: int
) -> None:
    body = _body(events, repeat)
    if noise:
        at %= len(body)
        body = body[:at] + noise + body[at + 1 :]
    fast = wire.read_fast(body, tenant_key="acme", limits=LIMITS)
    if fast is not None:
        assert _strictly(body) == fast


def test_the_fast_reader_takes_an_ordinary_batch() -> None:
    event = {
        "tenantId": '"acme"',
        "metric": '"api_calls"',
        "customerRef": '"cus_1"',
        "quantity": "1.50",
        "ts": '"2026-01-31T12:00:00.5Z"',
        "meta": '{"a":{"b":[1,2.50]}}',
    }
    body = _body([event] * 3, repeat=False)
    fast = wire.read_fast(body, tenant_key="acme", limits=LIMITS)
    assert fast is not None
    assert fast == _strictly(body)
    assert fast.quantities == ["1.5"] * 3


_numerics = st.decimals(
    min_value=Decimal(-(10**25)), max_value=Decimal(10**25), allow_nan=False, places=12
) | st.sampled_from([Decimal(0), Decimal("0.0001"), Decimal(10000), Decimal("9999.9999")])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_numerics, min_size=1, max_size=20))
def test_packed_numerics_read_back_equal(db: None, numbers: list[Decimal]) -> None:
    from django.db import connection

    connection.ensure_connection()
    row = connection.connection.execute(
        "SELECT %b::numeric[]", [packing.numerics([format(number, "f") for number in numbers])]
    ).fetchone()
    assert row is not None
    assert row[0] == numbers


_packable_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=300
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | _packable_text, min_size=1, max_size=9),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=9),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9),
    st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=9),
    st.lists(st.none() | st.dictionaries(_packable_text, st.integers(), max_size=2), min_size=1),
)
def test_packed_arrays_read_back_equal(
    db: None,
    texts: list[str | None],
    ints: list[int],
    wide: list[int],
    uuids: list[bytes],
    documents: list[dict[str, int] | None],
) -> None:
    from django.db import connection

    connection.ensure_connection()
    encoded = [None if value is None else json.dumps(value).encode() for value in documents]
    row = connection.connection.execute(
        "SELECT %b::text[], %b::int4[], %b::int8[], %b::uuid[], %b::jsonb[]",
        [
            packing.texts(texts),
            packing.int4s(ints),
            packing.int8s(wide),
            packing.uuids(uuids),
            packing.jsonbs(encoded),
        ],
    ).fetchone()
    assert row is not None
    assert row[0] == texts
    assert row[1] == ints
    assert row[2] == wide
    assert [value.bytes for value in row[3]] == uuids
    read = [value if value is None else json.loads(value) for value in row[4]]
    assert read == documents
