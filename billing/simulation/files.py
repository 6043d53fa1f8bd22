"""Scenario files: finding them, reading JSON and YAML into the same values, writing results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from billing.pricing.errors import InvalidField, PricingError
from billing.simulation.scenarios import Resolver
from stripemeter.lib import strictjson

SUFFIXES: Final = (".sim.json", ".sim.yaml", ".sim.yml")
EXPECTED_SUFFIX: Final = ".expected.json"
RESULT_SUFFIX: Final = ".result.json"

FILE_BYTES_MAX: Final = 5_000_000
SCENARIOS_MAX: Final = 10_000
# Aliases let a small YAML file unfold without end; this bounds what it may unfold to.
NODES_MAX: Final = 200_000
DEPTH_MAX: Final = 32


class UnreadableFile(PricingError):
    """A file that is missing, too large, or neither JSON nor YAML."""

    code = "unreadable_file"


class _Loader(yaml.SafeLoader):
    """YAML with JSON's scalars only: `no` stays text, 010 is ten, 0.1 is an exact Decimal."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def _number(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    text = loader.construct_scalar(node)
    if len(text) > 400:
        raise yaml.YAMLError("number has too many digits")
    return Decimal(text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.YAMLError(f"names must be text{key_node.start_mark}")
        if key in found:
            raise yaml.YAMLError(f"duplicate name {key!r}")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def find_scenarios(paths: Iterable[Path]) -> list[Path]:
    """The scenario files among `paths` and, recursively, inside its directories; sorted.

    A file named on the command line is taken whatever its ending. Raises UnreadableFile for a
    path that does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (item for item in path.rglob("*") if item.name.endswith(SUFFIXES))
            found.update(dict.fromkeys(sorted(item for item in inside if item.is_file())))
        elif path.is_file():
            found[path] = None
        else:
            raise UnreadableFile("does not exist", path=str(path))
    if len(found) > SCENARIOS_MAX:
        raise UnreadableFile(f"more than {SCENARIOS_MAX} scenarios")
    return list(found)


def stem(path: Path) -> str:
    """The file's name without its scenario ending."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def expected_path(scenario: Path) -> Path:
    """Where `run --record` keeps a scenario's recorded expectation: beside it."""
    return scenario.with_name(stem(scenario) + EXPECTED_SUFFIX)


def result_path(scenario: Path, roots: Iterable[Path], results: Path) -> Path:
    """Where a scenario's result goes; the folders below the named directory are kept."""
    for root in roots:
        if root.is_dir() and scenario.is_relative_to(root):
            return results / scenario.relative_to(root).parent / (stem(scenario) + RESULT_SUFFIX)
    return results / (stem(scenario) + RESULT_SUFFIX)


def read_document(path: Path) -> Any:
    """The values of a JSON or YAML file, numbers as int or Decimal; never a float."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise UnreadableFile(f"is larger than {FILE_BYTES_MAX} bytes", path=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFile(error.strerror or "cannot be read", path=str(path)) from error
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(data, str(path))
    try:
        return strictjson.loads(data)
    except strictjson.InvalidJSON as error:
        raise UnreadableFile(str(error), path=str(path)) from error


def _read_yaml(data: bytes, path: str) -> Any:
    try:
        value = yaml.load(data.decode(), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise UnreadableFile(f"not valid YAML: {text}", path=path) from error
    _check_size(value, path)
    return value


def _check_size(value: Any, path: str) -> None:
    """Refuse what aliases unfold to too much, or to itself."""
    stack, nodes = [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        nodes += 1
        if nodes > NODES_MAX or depth > DEPTH_MAX:
            raise UnreadableFile("unfolds to too much", path=path)
        if isinstance(item, dict):
            stack.extend((member, depth + 1) for member in item.values())
        elif isinstance(item, list):
            stack.extend((member, depth + 1) for member in item)


def resolver_for(scenario: Path) -> Resolver:
    """Resolves `model: {reference: prices/api.json}` to a file below the scenario's folder."""

    def resolve(reference: str) -> object:
        target = Path(reference)
        if target.is_absolute() or ".." in target.parts:
            raise InvalidField("must stay below the scenario's folder", path="model.reference")
        try:
            return read_document(scenario.parent / target)
        except UnreadableFile as error:
            raise InvalidField(f"{reference} {error.detail}", path="model.reference") from error

    return resolve


def write_json(path: Path, value: Any) -> None:
    """Write a document as indented JSON; Decimals as plain numbers with every digit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pretty_json(value))


def pretty_json(value: Any) -> bytes:
    """Indented JSON text with a final newline."""
    return msgspec.json.format(strictjson.dumps(value), indent=2) + b"\n"
