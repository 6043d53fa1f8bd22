"""Writes `parameters.json`, the request parameters that each operation takes.

Run it after Stripe's published OpenAPI description (MIT licence) changed:

    python -m billing.stripe_sandbox.describe_parameters SPECIFICATION.json

Only what the sandbox needs for refusing wrong requests is kept: names, types,
enumerations, lengths and what is required. Nested objects that the sandbox does
not model are kept as "any object".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PARAMETERS_FILE = Path(__file__).with_name("parameters.json")

NESTED_SCHEMA_CHARS_MAX = 1_500
"""A nested schema longer than this belongs to a part of Stripe that is not modelled."""

ENUM_VALUES_MAX = 30

KEPT_KEYS = ("type", "enum", "maxLength", "required", "format", "additionalProperties")

ALWAYS_KEPT = {"items", "phases", "subscription_details", "subscription_items", "invoice_items"}
"""Parameters whose nested schema is kept whatever its length."""


def _trim(schema: Any) -> Any:
    """Returns the schema without prose, with long enumerations widened to strings."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {key: schema[key] for key in KEPT_KEYS if key in schema}
    if len(kept.get("enum", [])) > ENUM_VALUES_MAX:
        del kept["enum"]
    if isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = _trim(kept["additionalProperties"])
    if "properties" in schema:
        kept["properties"] = {name: _trim(part) for name, part in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _trim(schema["items"])
    if "anyOf" in schema:
        kept["anyOf"] = [_trim(part) for part in schema["anyOf"]]
    return kept


def _shorten(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Returns {"type": "object"} for a nested schema that is too long to be modelled."""
    trimmed: dict[str, Any] = _trim(schema)
    if name in ALWAYS_KEPT or len(json.dumps(trimmed)) <= NESTED_SCHEMA_CHARS_MAX:
        return trimmed
    return {"type": trimmed.get("type", "object")}


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of one operation: query and body together."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "query":
            continue
        properties[parameter["name"]] = _shorten(parameter["name"], parameter["schema"])
        if parameter.get("required"):
            required.append(parameter["name"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, schema in content["schema"].get("properties", {}).items():
            properties[name] = _shorten(name, schema)
        required.extend(content["schema"].get("required", []))
    return {"properties": properties, "required": required}


def describe(specification: dict[str, Any]) -> dict[str, Any]:
    """Returns "METHOD /path" -> {"properties", "required"} for every operation."""
    described = {}
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            described[f"{method.upper()} {path}"] = _operation(operation)
    return described


def main() -> None:
    """Reads the specification named on the command line and writes `parameters.json`."""
    specification = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    lines = [
        f"{json.dumps(name)}: {json.dumps(operation, sort_keys=True)}"
        for name, operation in sorted(describe(specification).items())
    ]
    PARAMETERS_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
