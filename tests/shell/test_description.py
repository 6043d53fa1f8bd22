"""The description is complete: every route, every example, quantities as text on request."""

import json
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from jsonschema import Draft202012Validator

from stripemeter import apidocs
from stripemeter.middleware import API_PREFIXES

#: Routes that the description leaves out, and why.
NOT_DESCRIBED = {
    "/v1/openapi.json": "the description itself",
    "/widget/tokens": "the predecessor's path of POST /v1/widget/sessions",
}
#: Wire names of the predecessor that are no camelCase (contract 1.6).
NOT_CAMEL = {"drift_abs", "drift_pct"}


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(apidocs.description())


def routes(found: Any, prefix: str = "/") -> list[str]:
    paths: list[str] = []
    for item in found:
        if isinstance(item, URLResolver):
            paths += routes(item.url_patterns, prefix + str(item.pattern))
        elif isinstance(item, URLPattern):
            paths.append(prefix + str(item.pattern).strip("^$"))
    return paths


def without_names(path: str) -> str:
    """``/v1/mappings/<str:mapping_id>`` and ``/v1/mappings/{mapping_id}`` are one route."""
    return "/".join(
        "*" if part[:1] in {"<", "{", "("} else part for part in path.rstrip("/").split("/")
    )


def test_every_route_of_the_api_is_described(document: Any) -> None:
    found = routes(get_resolver().url_patterns)
    ours = {without_names(path) for path in found if path.startswith(API_PREFIXES)}
    described = {without_names(path) for path in document["paths"]}
    assert ours - described == set(NOT_DESCRIBED)
    assert described - ours == set()


def operations(document: Any) -> list[tuple[str, Any]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, found in document["paths"].items()
        for method, operation in found.items()
    ]


def test_every_body_has_an_example_that_fits_its_schema(document: Any) -> None:
    faults = []
    for name, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            examples = [example["value"] for example in content.get("examples", {}).values()]
            examples += [content["example"]] if "example" in content else []
            if not examples and not name.startswith("POST /webhooks/"):
                faults.append(f"{name} {media}: no example")
            schema = content["schema"] | {"components": document["components"]}
            for example in examples:
                found = Draft202012Validator(schema).iter_errors(example)
                faults += [f"{name}: {error.message[:200]}" for error in found]
    assert faults == []


def test_every_json_answer_names_its_fields(document: Any) -> None:
    vague = []
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            empty = schema.get("type") == "object" and not schema.get("properties")
            if status[0] == "2" and empty and "/widget/" not in name:
                vague.append(name)
    assert vague == []


def test_the_wire_is_camel_case(document: Any) -> None:
    wrong = set()

    def look(schema: Any, where: str) -> None:
        if isinstance(schema, list):
            for each in schema:
                look(each, where)
        if isinstance(schema, dict):
            for name, member in schema.items():
                if name == "properties":
                    wrong.update(
                        f"{where}: {field}"
                        for field in member
                        if "_" in field and field not in NOT_CAMEL
                    )
                look(member, where)

    for part in ("schemas", "parameters"):
        for name, schema in document["components"][part].items():
            look(schema, name)
    for name, operation in operations(document):
        look(operation, name)
    assert wrong == set()


def test_exact_text_can_be_asked_for_wherever_quantities_are_answered(document: Any) -> None:
    asked = {
        name
        for name, operation in operations(document)
        if {"$ref": "#/components/parameters/Decimals"} in operation.get("parameters", [])
    }
    assert {
        "GET /v1/events", "GET /v1/usage/current", "GET /v1/usage/history", "GET /v1/pushes",
        "POST /v1/usage/projection", "POST /v1/replay",
        "GET /v1/reconciliation/{period}", "GET /v1/reconciliation/summary",
        "GET /v1/reconciliation/findings",
    } <= asked  # fmt: skip
