"""Golden values: what identifies an event must never change between releases."""

from ledger import identity
from ledger.wire import Columns


def _columns() -> Columns:
    return Columns(
        metrics=["api_calls"],
        customers=["cus_1"],
        resources=[None],
        quantities=["1.5"],
        ts_us=[827_798_400_000_001],
        metas=[b'{"a":1}'],
        sources=["http"],
        keys=[None],
    )


def test_the_fingerprint_of_a_known_event_is_the_published_one() -> None:
    assert identity.fingerprints(_columns())[0].hex() == "d0fc50bf290f984222385aef2fd46587"


def test_the_derived_key_of_a_known_event_is_the_published_one() -> None:
    columns = _columns()
    key = identity.keys(columns, identity.fingerprints(columns), tenant_id=7)[0]
    assert key.hex() == "019d2770d8008501bdd12e19f0289635"
    assert key[6] >> 4 == 8


def test_derived_keys_differ_between_tenants() -> None:
    columns = _columns()
    prints = identity.fingerprints(columns)
    assert identity.keys(columns, prints, tenant_id=1) != identity.keys(
        columns, prints, tenant_id=2
    )


def test_a_given_text_key_is_digested() -> None:
    assert identity.key_of_text("order-1").hex() == "cf4aa8f480daa031a9644d46e70df685"


def test_a_uuid7_keeps_its_bits_and_other_uuids_do_not() -> None:
    seven = "019a9f00-0000-7000-8000-000000000001"
    four = "019a9f00-0000-4000-8000-000000000001"
    assert identity.key_of_text(seven).hex() == seven.replace("-", "")
    assert identity.key_of_text(four).hex() != four.replace("-", "")
    assert identity.key_of_text(seven.upper()) != identity.key_of_text(seven)


def test_adjoining_fields_cannot_be_shifted_into_each_other() -> None:
    one, other = _columns(), _columns()
    one.metrics, one.customers = ["ab"], ["c"]
    other.metrics, other.customers = ["a"], ["bc"]
    assert identity.fingerprints(one) != identity.fingerprints(other)
