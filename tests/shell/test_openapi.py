"""The API's description is valid OpenAPI 3.1 and says what every operation can answer."""

import json
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from openapi_spec_validator import OpenAPIV31SpecValidator
from pytest_django import Settings

from stripemeter import apidocs
from tests.builders.tenancy import Caller, make_caller


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(apidocs.description())


def test_nothing_in_the_description_is_guessed(document: Any) -> None:
    assert dict(GENERATOR_STATS._warn_cache) == {}
    assert dict(GENERATOR_STATS._error_cache) == {}


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, found in document["paths"].items()
        for method, operation in found.items()
        if method in {"get", "post", "put", "patch", "delete"}
    ]


def test_the_description_is_valid_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_operation_names_its_problems(document: Any) -> None:
    for path, _, operation in operations(document):
        if path.startswith("/v1/"):
            assert {"400", "401", "403", "429", "503"} <= set(operation["responses"]), path
            # A signed link is its own credential.
            signed = path.endswith("/exports/download")
            assert signed or {"BearerAuth": []} in operation["security"], path
            if "{" in path:
                assert "404" in operation["responses"]


def test_every_operation_has_a_name_of_its_own_and_a_description(document: Any) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert operation.get("description") or operation.get("summary"), (path, method)


@pytest.mark.django_db
def test_in_production_a_stranger_sees_no_description(settings: Settings) -> None:
    settings.PRODUCTION = True
    settings.SECURE_SSL_REDIRECT = False
    outside = Client(REMOTE_ADDR="203.0.113.9")
    assert outside.get("/v1/openapi.json").status_code == 401
    assert outside.get("/docs").status_code == 404
    assert outside.get("/docs/json").status_code == 404
    caller: Caller = make_caller("acme")
    assert outside.get("/v1/openapi.json", headers=caller.headers).status_code == 200


@pytest.mark.django_db
def test_the_page_has_no_inline_script_or_style() -> None:
    page = Client().get("/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "<style" not in text
    assert "style=" not in text
    assert text.count("<script") == text.count("<script src=")
    assert "http" not in text.replace("http-equiv", "")
