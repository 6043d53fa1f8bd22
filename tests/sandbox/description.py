"""Checks requests and answers against Stripe's published OpenAPI description.

The description is no part of this repository: it is looked for at
`$STRIPEMETER_SHARED/stripe-spec-metering.json`, then in `../shared` beside the
repository. Where it is absent, the checks are skipped, loudly.
"""

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).resolve().parents[2]
URN = "urn:stripe-spec"


def description_file() -> Path:
    """Returns where the description should be."""
    folder = os.environ.get("STRIPEMETER_SHARED") or ROOT.parent / "shared"
    return Path(folder) / "stripe-spec-metering.json"


def is_present() -> bool:
    """Tells whether the description can be read."""
    return description_file().is_file()


@cache
def _specification() -> dict[str, Any]:
    return json.loads(description_file().read_text())


@cache
def _registry() -> Registry:
    resource = Resource.from_contents(_specification(), default_specification=DRAFT202012)
    return Registry().with_resource(URN, resource)


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Returns (pattern, path template), fixed words first."""
    templates = sorted(_specification()["paths"], key=lambda path: (path.count("{"), path))
    return [(re.compile("^" + re.sub(r"\{[^}]+\}", "[^/]+", t) + "$"), t) for t in templates]


def operation_of(method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    """Returns (template, operation) of a request, or None when it is not described."""
    for pattern, template in _templates():
        methods = _specification()["paths"][template]
        if pattern.match(path) and method.lower() in methods:
            return template, methods[method.lower()]
    return None


def _resolved(schema: Any) -> Any:
    """Points the references of a schema at the registered description."""
    if isinstance(schema, dict):
        return {
            key: URN + value if key == "$ref" else _resolved(value) for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_resolved(part) for part in schema]
    return schema


def _errors(value: Any, schema: dict[str, Any]) -> list[str]:
    validator = OAS30Validator(_resolved(schema), registry=_registry())
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


def bracket_form(text: str) -> dict[str, Any]:
    """Returns the nested values of a bracketed form, independently of the sandbox's parser."""
    root: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        parts = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", key)
        node = root
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1] if parts[-1] != "" else str(len(node))] = value
    return root


def _typed(value: Any, schema: dict[str, Any]) -> Any:
    """Turns strings into the schema's integers, numbers, booleans and arrays."""
    if "anyOf" in schema:
        for part in schema["anyOf"]:
            typed = _typed(value, part)
            if not _errors(typed, part):
                return typed
        return value
    kind = schema.get("type")
    if kind == "array" and isinstance(value, dict):
        return [_typed(part, schema.get("items", {})) for part in value.values()]
    if kind == "object" and isinstance(value, dict):
        known, extra = schema.get("properties", {}), schema.get("additionalProperties")
        return {
            key: _typed(part, known.get(key, extra if isinstance(extra, dict) else {}))
            for key, part in value.items()
        }
    if isinstance(value, str):
        if kind == "integer" and re.fullmatch(r"-?\d+", value):
            return int(value)
        if kind == "boolean" and value in ("true", "false"):
            return value == "true"
        if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value)
    return value


def request_errors(method: str, url: str, body: str | bytes | None) -> list[str]:
    """Returns what the description says against a request; empty when it is right."""
    parts = urlsplit(url)
    found = operation_of(method, parts.path)
    if found is None:
        return [f"not described: {method} {parts.path}"]
    _, operation = found
    text = body.decode() if isinstance(body, bytes) else body or ""
    errors: list[str] = []
    query = bracket_form(parts.query)
    described = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
    for name, value in query.items():
        if name not in described:
            errors.append(f"query {name}: not described")
            continue
        schema = described[name]["schema"]
        errors += [f"query {name} {e}" for e in _errors(_typed(value, schema), schema)]
    errors += [
        f"query {name}: missing"
        for name, parameter in described.items()
        if parameter.get("required") and name not in query
    ]
    contents = operation.get("requestBody", {}).get("content", {})
    for kind, content in contents.items():
        schema = content["schema"]
        value = json.loads(text or "{}") if "json" in kind else _typed(bracket_form(text), schema)
        errors += [f"body {e}" for e in _errors(value, schema)]
    return errors


def answer_errors(method: str, url: str, status: int, body: bytes) -> list[str]:
    """Returns what the description says against an answer; empty when it is right."""
    path = urlsplit(url).path
    found = operation_of(method, path)
    if found is None:
        return [f"not described: {method} {path}"]
    _, operation = found
    responses = operation["responses"]
    described = responses.get(str(status)) or responses.get("default")
    if described is None:
        return [f"status {status} is not described"]
    value = json.loads(body)
    errors = []
    for content in described.get("content", {}).values():
        schema = content["schema"]
        if "oneOf" in schema:
            # The general error of v2 fits every special one, so that "one of" never holds.
            schema = {"anyOf": schema["oneOf"]}
        errors += _errors(value, schema)
    return errors
