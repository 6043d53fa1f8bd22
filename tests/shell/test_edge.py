"""What no route should have to think about."""

import io
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client
from pytest_django import Settings

from stripemeter.lib import drf, errors
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/admin/api-keys"
pytestmark = pytest.mark.django_db


@pytest.fixture
def acme() -> Caller:
    return make_caller("acme")


def problem(answer: Any) -> tuple[int, str]:
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["X-Content-Type-Options"] == "nosniff"
    body = answer.json()
    assert body["requestId"] == answer["X-Request-Id"]
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "PROPFIND"])
def test_unknown_methods_are_refused_for_any_route(method: str) -> None:
    for path in (URL, "/v1/nowhere", "/health"):
        assert problem(Client().generic(method, path)) == (405, "method_not_allowed")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_method_the_route_does_not_take_names_those_it_takes(acme: Caller, method: str) -> None:
    answer = Client().generic(method, URL, headers=acme.headers)
    assert problem(answer) == (405, "method_not_allowed")
    assert answer["Allow"] == "GET, HEAD, POST"
    assert "Access-Control-Allow-Origin" not in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer a,Bearer b"},
        {"X-API-Key": "a,b"},
        {"Idempotency-Key": "a,b"},
        {"Content-Type": "application/json,application/json"},
    ],
)
def test_a_header_sent_twice_is_refused(acme: Caller, headers: dict[str, str]) -> None:
    answer = Client().post(URL, b"{}", "application/json", headers=acme.headers | headers)
    assert problem(answer) == (400, "repeated_header")


def test_headers_and_query_have_a_size(acme: Caller) -> None:
    padded = acme.headers | {"X-Pad": "a" * 33_000}
    assert problem(Client().get(URL, headers=padded)) == (431, "headers_too_large")
    long = Client().get(f"{URL}?x={'a' * 9_000}", headers=acme.headers)
    assert problem(long) == (414, "uri_too_long")


@pytest.mark.parametrize("name", ["api_key", "apikey", "API-KEY", "access_token", "q"])
def test_a_key_in_the_url_is_refused_even_with_a_good_header(acme: Caller, name: str) -> None:
    answer = Client().get(f"{URL}?{name}={acme.plaintext}", headers=acme.headers)
    assert problem(answer) == (401, "key_in_url")
    assert acme.plaintext not in answer.content.decode()


def test_chunked_bodies_are_refused(acme: Caller) -> None:
    headers = acme.headers | {"Transfer-Encoding": "chunked"}
    answer = Client().post(URL, b"{}", "application/json", headers=headers)
    assert problem(answer) == (400, "length_required")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain",
        "application/xml", "application/msgpack", "application/json; charset=utf-16",
        "application/json; charset=no-such", "application/yaml",
    ],
)  # fmt: skip
def test_other_content_types_are_refused(acme: Caller, content_type: str) -> None:
    answer = Client().generic("POST", URL, b"{}", content_type, headers=acme.headers)
    assert problem(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["br", "gzip", "x", "gzip, identity"])
def test_an_encoded_body_is_refused(acme: Caller, encoding: str) -> None:
    headers = acme.headers | {"Content-Encoding": encoding}
    answer = Client().post(URL, b"{}", "application/json", headers=headers)
    assert problem(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body",
    [b"\xef\xbb\xbf{}", '{"name":"n"}'.encode("utf-16-le"), b'{"name":"\xff"}', b"{", b"{} {}",
     b'{"name":"a","name":"b"}', b'{"name":NaN}', b"[" * 100_000],
)  # fmt: skip
def test_a_body_that_is_not_strict_json_is_refused(acme: Caller, body: bytes) -> None:
    answer = Client().post(URL, body, "application/json", headers=acme.headers)
    assert problem(answer) == (400, "invalid_json")


def test_a_body_over_the_limit_is_refused(acme: Caller, settings: Settings) -> None:
    settings.API_BODY_LIMIT_BYTES = 100
    answer = Client().post(URL, {"name": "n" * 100}, "application/json", headers=acme.headers)
    assert problem(answer) == (413, "payload_too_large")


def test_a_body_that_ended_early_is_refused() -> None:
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": io.BytesIO(b"{}"),
        "CONTENT_LENGTH": "30", "CONTENT_TYPE": "application/json",
    }  # fmt: skip
    with pytest.raises(errors.InvalidRequest, match="ended early"):
        drf.read_body(WSGIRequest(environ), limit=100)


def test_a_parameter_given_twice_is_refused(acme: Caller) -> None:
    answer = Client().get(f"{URL}?limit=1&limit=2", headers=acme.headers)
    assert problem(answer) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1/", "/v1/a%00b", "/v1/%0d%0a", "/v1/%ff"])
def test_an_unknown_route_is_a_json_404(path: str) -> None:
    assert problem(Client().get(path)) == (404, "route_not_found")


def test_a_route_answers_with_a_trailing_slash_too_and_never_redirects(acme: Caller) -> None:
    assert Client().get(f"{URL}/", headers=acme.headers).status_code == 200


def test_a_forwarded_host_and_a_method_override_mean_nothing(acme: Caller) -> None:
    headers = acme.headers | {
        "X-Forwarded-Host": "evil.example", "X-HTTP-Method-Override": "DELETE",
    }  # fmt: skip
    answer = Client().get(URL, headers=headers)
    assert answer.status_code == 200
    assert "evil" not in repr(answer.headers) + answer.content.decode()


def test_where_tls_is_required_plain_text_is_refused_not_redirected(
    acme: Caller, settings: Settings
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert problem(Client().get(URL, headers=acme.headers)) == (403, "tls_required")
    secure = acme.headers | {"X-Forwarded-Proto": "https"}
    assert Client().get(URL, headers=secure).status_code == 200
    assert Client().get("/health/live").status_code == 200


def test_a_defect_is_answered_without_detail(acme: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    from stripemeter.tenancy import selectors

    def fail(**_: Any) -> None:
        raise RuntimeError("SELECT secret FROM /etc/passwd")

    monkeypatch.setattr(selectors, "api_keys", fail)
    client = Client(raise_request_exception=False)
    answer = client.get(URL, headers=acme.headers)
    assert problem(answer) == (500, "internal_error")
    assert "secret" not in answer.content.decode()
