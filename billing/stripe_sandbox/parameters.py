"""Request parameters: bracket-form parsing, types, and refusals in Stripe's words.

v1 sends `application/x-www-form-urlencoded` with brackets (`payload[value]=1`,
`items[0][price]=…`, `expand[]=…`); v2 sends JSON. Both are checked against
`parameters.json`, which is generated from Stripe's published description.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from billing.stripe_sandbox.describe_parameters import PARAMETERS_FILE
from billing.stripe_sandbox.errors import Failure, missing_param, unknown_param

Params = dict[str, Any]

NESTING_MAX = 8
"""Brackets deeper than this are refused; no parameter of Stripe's is."""

EXTRA_OPERATIONS: dict[str, dict[str, Any]] = {
    # Not in the trimmed description: removed from it (usage records), or of another area.
    "POST /v1/subscription_items/{id}/usage_records": {
        "properties": {
            "quantity": {"type": "integer"},
            "timestamp": {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["now"]}]},
            "action": {"type": "string", "enum": ["increment", "set"]},
        },
        "required": ["quantity"],
    },
    "GET /v1/subscription_items/{id}/usage_record_summaries": {
        "properties": {
            name: {"type": kind}
            for name, kind in (
                ("limit", "integer"),
                ("starting_after", "string"),
                ("ending_before", "string"),
            )
        },
        "required": [],
    },
    "GET /v1/disputes": {
        "properties": {
            name: {"type": kind}
            for name, kind in (
                ("charge", "string"),
                ("payment_intent", "string"),
                ("limit", "integer"),
                ("starting_after", "string"),
                ("ending_before", "string"),
                ("created", "object"),
            )
        },
        "required": [],
    },
}


@cache
def operations() -> dict[str, dict[str, Any]]:
    """Returns "METHOD /path" -> {"properties", "required"}, read once."""
    described: dict[str, dict[str, Any]] = json.loads(PARAMETERS_FILE.read_text(encoding="utf-8"))
    return described | EXTRA_OPERATIONS


def _path_of(key: str) -> list[str]:
    """Splits `a[b][c]` into ["a", "b", "c"]."""
    if "[" not in key:
        return [key]
    head, _, rest = key.partition("[")
    if not rest.endswith("]"):
        raise unknown_param(key)
    path = [head, *rest[:-1].split("][")]
    if len(path) > NESTING_MAX:
        raise unknown_param(key)
    return path


def _listed(value: Any) -> Any:
    """Turns the maps that stand for lists (keys 0, 1, … or empty) into lists."""
    if not isinstance(value, dict):
        return value
    plain = {key: _listed(part) for key, part in value.items()}
    if plain and all(key.isdigit() or key.startswith("#") for key in plain):
        return list(plain.values())
    return plain


def parse_form(text: str) -> Params:
    """Returns the nested parameters of a form or query string; values stay strings."""
    root: dict[str, Any] = {}
    for index, (key, value) in enumerate(parse_qsl(text, keep_blank_values=True)):
        path = [part or f"#{index}" for part in _path_of(key)]
        target = root
        for part in path[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise Failure(f"Invalid hash: {key}", param=path[0])
        target[path[-1]] = value
    return {
        key: value if key in ("payload", "metadata") else _listed(value)
        for key, value in root.items()
    }


def check(operation: str, params: Params) -> Params:
    """Returns the parameters with types applied, or raises what Stripe answers.

    Unknown names are refused at every level that the description spells out.
    """
    described = operations().get(operation)
    if described is None:
        return params
    properties = described["properties"]
    for name in params:
        if name not in properties and name != "expand":
            raise unknown_param(name)
    for name in described["required"]:
        if name not in params:
            raise missing_param(name)
    return {name: _typed(name, value, properties.get(name, {})) for name, value in params.items()}


def _typed(name: str, value: Any, schema: dict[str, Any]) -> Any:
    """Returns one value converted to its described type."""
    if "anyOf" in schema:
        return _any_of(name, value, schema["anyOf"])
    kind = schema.get("type")
    if kind == "string":
        return _string(name, value, schema)
    if kind == "integer":
        return _integer(name, value)
    if kind == "boolean":
        return _boolean(name, value)
    if kind == "array":
        return _array(name, value, schema)
    if kind == "object":
        return _object(name, value, schema)
    return value


def _any_of(name: str, value: Any, options: list[dict[str, Any]]) -> Any:
    """Returns the value by the first alternative that takes it; else raises its refusal."""
    refusal: Failure | None = None
    for option in options:
        try:
            return _typed(name, value, option)
        except Failure as failure:
            refusal = refusal or failure
    assert refusal is not None, "anyOf without alternatives"
    raise refusal


def _string(name: str, value: Any, schema: dict[str, Any]) -> str:
    if not isinstance(value, str):
        raise Failure(f"Invalid string: {value}", param=name)
    choices = schema.get("enum")
    if choices is not None and value not in choices:
        raise Failure(f"Invalid {name}: must be one of {_in_words(choices)}", param=name)
    length_max = schema.get("maxLength")
    if length_max is not None and len(value) > length_max:
        raise Failure(
            f"Invalid string: {value[:8]}...{value[-4:]}; must be at most {length_max} characters",
            param=name,
        )
    return value


def _in_words(choices: list[str]) -> str:
    """Returns "a, b, or c"."""
    quoted = [choice or "an empty string" for choice in choices]
    if len(quoted) <= 2:
        return " or ".join(quoted)
    return ", ".join(quoted[:-1]) + f", or {quoted[-1]}"


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Failure(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    try:
        return int(value)
    except ValueError:
        raise Failure(
            f"Invalid integer: {value}", code="parameter_invalid_integer", param=name
        ) from None


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise Failure(f"Invalid boolean: {value}", param=name)


def _array(name: str, value: Any, schema: dict[str, Any]) -> list[Any]:
    if value == "":
        return []
    if not isinstance(value, list):
        raise Failure("Invalid array", param=name)
    items = schema.get("items", {})
    return [_typed(f"{name}[{index}]", item, items) for index, item in enumerate(value)]


def _object(name: str, value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Failure("Invalid object", code="parameter_invalid_object", param=name)
    properties = schema.get("properties")
    if properties is None:
        extra = schema.get("additionalProperties")
        if not isinstance(extra, dict):
            return value
        return {key: _typed(f"{name}[{key}]", part, extra) for key, part in value.items()}
    for key in value:
        if key not in properties:
            raise unknown_param(f"{name}[{key}]")
    for key in schema.get("required", []):
        if key not in value:
            raise missing_param(f"{name}[{key}]")
    return {key: _typed(f"{name}[{key}]", part, properties[key]) for key, part in value.items()}
