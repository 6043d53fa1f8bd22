"""API keys over the API: shown once, bounded by the asking key, audited."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from stripemeter.lib import clock
from stripemeter.tenancy import audit, services
from stripemeter.tenancy.models import ApiKey, AuditEntry
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/admin/api-keys"
SHOWN = {
    "id", "tenantId", "name", "prefix", "scopes", "status", "createdBy", "createdAt",
    "expiresAt", "revokedAt", "lastUsedAt", "rotatedFrom",
}  # fmt: skip


def post(caller: Caller, path: str, body: Any = None) -> Any:
    return Client().post(
        path, body if body is not None else {}, "application/json", headers=caller.headers
    )


def works(plaintext: str) -> bool:
    forget_cached_keys()
    answer = Client().get(URL, headers={"Authorization": f"Bearer {plaintext}"})
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


def test_a_key_is_created_and_works_at_once(acme: Caller, globex: Caller) -> None:
    answer = post(acme, URL, {"name": "importer", "scopes": ["project:read"]})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body["key"]) == SHOWN
    assert body["key"]["tenantId"] == "acme"
    assert body["key"]["createdBy"] == f"key:{acme.key.lookup}"
    assert body["apiKey"].startswith(body["key"]["prefix"])
    assert works(body["apiKey"])


def test_the_defaults_are_the_contracts(acme: Caller) -> None:
    key = post(acme, URL).json()["key"]
    assert (key["name"], key["scopes"]) == ("New API Key", ["project:read", "project:write"])


def test_no_answer_and_no_stored_row_holds_the_plaintext(acme: Caller) -> None:
    plaintext = post(acme, URL).json()["apiKey"]
    secret = plaintext[len("sm_live_") + 12 :]
    for path in (URL, f"{URL}/{acme.key.lookup}"):
        text = Client().get(path, headers=acme.headers).content.decode()
        assert secret not in text
        assert "digest" not in text
        assert "hash" not in text
    rows = [*ApiKey.objects.values_list(), *AuditEntry.objects.values_list()]
    assert secret not in repr([[bytes(v) if isinstance(v, memoryview) else v for v in row]
                               for row in rows])  # fmt: skip


def test_scopes_cannot_be_widened(acme: Caller) -> None:
    narrow = make_caller(acme.tenant, scopes=["project:write"])
    refused = post(narrow, URL, {"scopes": ["project:read"]})
    assert (refused.status_code, refused.json()["code"]) == (400, "scope_escalation")
    assert post(narrow, URL).json()["code"] == "scope_escalation"  # the defaults are wider too
    granted = post(narrow, URL, {"scopes": ["events:write"]})  # project:write amounts to it
    assert granted.status_code == 201


def test_rotating_a_wider_key_is_no_way_round_the_scopes(acme: Caller) -> None:
    narrow = make_caller(acme.tenant, scopes=["project:write"])
    refused = post(narrow, f"{URL}/{acme.key.lookup}/rotate")
    assert (refused.status_code, refused.json()["code"]) == (400, "scope_escalation")
    assert works(acme.plaintext)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"scopes": ["root"]}, "unknown_scope"),
        ({"scopes": ["project:read,project:write"]}, "unknown_scope"),
        ({"scopes": []}, "invalid_request"),
        ({"scopes": "project:read"}, "invalid_request"),
        ({"name": 5}, "invalid_request"),
        ({"name": ""}, "invalid_request"),
        ({"name": "x" * 201}, "invalid_request"),
        ({"name": "a\x00b"}, "invalid_json"),
        ({"digest": "aa"}, "invalid_request"),
        ({"revokedAt": None}, "invalid_request"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "invalid_expiry"),
        ({"expiresAt": "tomorrow"}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_a_malformed_key_is_refused_and_not_made(acme: Caller, body: Any, code: str) -> None:
    answer = post(acme, URL, body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert ApiKey.objects.count() == 1


def test_reading_scopes_cannot_write(acme: Caller) -> None:
    reader = make_caller(acme.tenant, scopes=["project:read"])
    assert post(reader, URL).json()["code"] == "missing_scope"
    assert Client().get(URL, headers=reader.headers).status_code == 200
    usage_only = make_caller(acme.tenant, scopes=["usage:read", "usage:write"])
    assert Client().get(URL, headers=usage_only.headers).status_code == 403


def test_rotation_leaves_the_old_key_working_for_the_overlap(acme: Caller) -> None:
    answer = post(acme, f"{URL}/{acme.key.lookup}/rotate", {"overlapSeconds": 600})
    assert answer.status_code == 200
    body = answer.json()
    assert body["key"]["rotatedFrom"] == acme.key.lookup
    assert body["key"]["scopes"] == sorted(acme.key.scopes)
    assert works(body["apiKey"])
    assert works(acme.plaintext)
    acme.key.refresh_from_db()
    assert acme.key.expires_at is not None
    assert timedelta(0) < acme.key.expires_at - clock.now() <= timedelta(seconds=600)


def test_rotation_without_overlap_ends_the_old_key(acme: Caller) -> None:
    new = post(acme, f"{URL}/{acme.key.lookup}/rotate", {"overlapSeconds": 0}).json()["apiKey"]
    assert works(new)
    assert not works(acme.plaintext)


def test_rotation_never_lengthens_a_life(acme: Caller) -> None:
    end = clock.now() + timedelta(seconds=60)
    short = make_caller(acme.tenant, expires_at=end)
    answer = post(acme, f"{URL}/{short.key.lookup}/rotate", {"overlapSeconds": 3600})
    short.key.refresh_from_db()
    assert short.key.expires_at == end
    assert answer.json()["key"]["expiresAt"] is not None


@pytest.mark.parametrize("overlap", [-1, 604_801, "1", 1.5, True])
def test_an_overlap_out_of_bounds_is_refused(acme: Caller, overlap: Any) -> None:
    answer = post(acme, f"{URL}/{acme.key.lookup}/rotate", {"overlapSeconds": overlap})
    assert answer.status_code == 400
    assert ApiKey.objects.count() == 1


def test_a_revoked_key_stops_and_cannot_be_rotated(acme: Caller) -> None:
    other = make_caller(acme.tenant)
    answer = post(acme, f"{URL}/{other.key.lookup}/revoke")
    assert (answer.status_code, answer.json()["key"]["status"]) == (200, "revoked")
    assert not works(other.plaintext)
    again = post(acme, f"{URL}/{other.key.lookup}/revoke")
    assert again.json()["key"]["revokedAt"] == answer.json()["key"]["revokedAt"]
    assert post(acme, f"{URL}/{other.key.lookup}/rotate").status_code == 409


def test_a_revocation_is_seen_at_once_by_the_process_that_made_it(
    acme: Caller, django_capture_on_commit_callbacks: Any
) -> None:
    other = make_caller(acme.tenant)
    assert Client().get(URL, headers=other.headers).status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        post(acme, f"{URL}/{other.key.lookup}/revoke")
    assert Client().get(URL, headers=other.headers).status_code == 401


@pytest.mark.parametrize("action", ["", "/rotate", "/revoke"])
def test_a_foreign_key_is_as_unknown_as_no_key(acme: Caller, globex: Caller, action: str) -> None:
    def ask(lookup: str) -> Any:
        if action:
            return post(acme, f"{URL}/{lookup}{action}")
        return Client().get(f"{URL}/{lookup}", headers=acme.headers)

    foreign, unknown = ask(globex.key.lookup), ask("x" * 12)
    assert foreign.status_code == unknown.status_code == 404
    assert {**foreign.json(), "requestId": ""} == {**unknown.json(), "requestId": ""}
    assert works(globex.plaintext)


def test_a_tenant_named_in_the_body_must_be_ones_own(acme: Caller, globex: Caller) -> None:
    answer = post(acme, URL, {"tenantId": "globex"})
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_mismatch")
    polluted = post(acme, f"{URL}?tenantId=acme", {"tenantId": "globex"})
    assert polluted.status_code == 403
    assert ApiKey.objects.count() == 2


def test_the_list_pages_through_the_tenants_own_keys_newest_first(
    acme: Caller, globex: Caller
) -> None:
    made = [acme.key.lookup] + [make_caller(acme.tenant).key.lookup for _ in range(4)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = Client().get(f"{URL}?limit=2&cursor={cursor}", headers=acme.headers).json()
        seen += [key["id"] for key in page["apiKeys"]]
        assert {key["tenantId"] for key in page["apiKeys"]} == {"acme"}
        if page["nextCursor"] is None:
            break
        cursor = page["nextCursor"]
    assert seen == made[::-1]


def test_a_cursor_is_bound_to_its_tenant_and_its_bytes(acme: Caller, globex: Caller) -> None:
    make_caller(acme.tenant)
    cursor = Client().get(f"{URL}?limit=1", headers=acme.headers).json()["nextCursor"]
    altered = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    for caller, text in ((globex, cursor), (acme, altered), (acme, "%%"), (acme, "x" * 3000)):
        answer = Client().get(URL, {"cursor": text}, headers=caller.headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def test_each_write_leaves_one_audit_row_without_a_secret(acme: Caller) -> None:
    AuditEntry.objects.order_by("pk")
    before = AuditEntry.objects.count()
    lookup = post(acme, URL, {"name": "importer"}).json()["key"]["id"]
    rotated = post(acme, f"{URL}/{lookup}/rotate").json()
    post(acme, f"{URL}/{lookup}/revoke")
    post(acme, f"{URL}/{lookup}/revoke")  # changes nothing, so leaves no row
    rows = list(AuditEntry.objects.order_by("sequence"))[before:]
    assert [row.action for row in rows] == [
        "api_key.created", "api_key.rotated", "api_key.revoked",
    ]  # fmt: skip
    assert {(row.actor, row.object_id, row.address) for row in rows} == {
        (f"key:{acme.key.lookup}", lookup, "127.0.0.1")
    }
    assert all(row.request_id for row in rows)
    assert rotated["apiKey"] not in repr([(row.before, row.after) for row in rows])
    assert audit.verify_chain(acme.tenant.pk) is None


@pytest.mark.parametrize("style", ["Bearer", "bearer", "bare", "X-API-Key"])
def test_every_documented_way_to_send_a_key_works(acme: Caller, style: str) -> None:
    if style == "X-API-Key":
        headers = {"X-API-Key": acme.plaintext}
    else:
        prefix = "" if style == "bare" else f"{style} "
        headers = {"Authorization": prefix + acme.plaintext}
    assert Client().get(URL, headers=headers).status_code == 200


def test_an_expired_key_and_a_key_of_a_closed_tenant_are_refused(acme: Caller) -> None:
    brief = make_caller(acme.tenant, expires_at=clock.now() + timedelta(hours=1))
    ApiKey.objects.filter(pk=brief.key.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert not works(brief.plaintext)
    acme.tenant.is_active = False
    acme.tenant.save()
    assert not works(acme.plaintext)


def test_the_service_refuses_an_overlap_beyond_seven_days(acme: Caller) -> None:
    with pytest.raises(Exception, match="7 days"):
        services.rotate_api_key(
            tenant_id=acme.tenant.pk,
            lookup=acme.key.lookup,
            actor="test",
            now=clock.now(),
            overlap=timedelta(days=8),
        )
