"""What there is to document, taken from the sources: error codes, commands, constraints."""

import ast
import re
from collections.abc import Iterator

from django.apps import apps
from django.core.management import get_commands

from tests.tidy.sources import PACKAGES, python_sources

#: Calls that put a code into an answer: by keyword, or at this position of their arguments.
_ANSWERS: dict[str, int | None] = {
    "ProblemError": 1, "InvalidRequest": 1, "Unauthenticated": 1, "Forbidden": 1, "NotFound": 1,
    "Conflict": 1, "PayloadTooLarge": 1, "UnsupportedMediaType": 1, "TooManyRequests": 1,
    "Unavailable": 1, "FieldError": 0, "invalid": None, "ValidationError": None, "note": 1,
    "_fault": 0,
}  # fmt: skip
#: Not part of this service's answers.
_ELSEWHERE = ("stripe_sandbox/", "stripemeter/sdk/", "stripemeter/cli/", "stripemeter/demo/")
_CODE = re.compile(r"[a-z]+(?:_[a-z]+)*")
#: The base class of all problems; no answer carries it.
_NEVER_ANSWERED = {"problem"}

OUR_APPS = ("stripemeter", "tenancy", "ledger", "counters", "billing", "reconciliation", "widget")


def error_codes() -> set[str]:
    """Every ``code`` that an answer of the API may carry, in itself or in ``errors[]``."""
    found: set[str] = set()
    for source in python_sources(*PACKAGES):
        if any(part in str(source.path) for part in _ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(source.text)):
            found |= set(_codes(node))
    return {code for code in found if _CODE.fullmatch(code)} - _NEVER_ANSWERED


def _codes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in _ANSWERS:
            given = [word.value for word in node.keywords if word.arg == "code"]
            place = _ANSWERS[name]
            if not given and place is not None and len(node.args) > place:
                given = [node.args[place]]
            for value in given:
                yield from _texts(value)
    elif isinstance(node, ast.ClassDef):
        for member in node.body:
            if isinstance(member, ast.Assign | ast.AnnAssign) and member.value is not None:
                target = member.targets[0] if isinstance(member, ast.Assign) else member.target
                if isinstance(target, ast.Name) and target.id == "code":
                    yield from _texts(member.value)


def _texts(value: ast.expr) -> Iterator[str]:
    for part in ast.walk(value):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def commands() -> set[str]:
    """The ``manage.py`` commands of this repository."""
    return {name for name, app in get_commands().items() if app.rpartition(".")[2] in OUR_APPS}


def constraints(label: str) -> set[str]:
    """The named constraints of an app's models, but for those that keep a list of values."""
    models = apps.get_app_config(label).get_models()
    names = {constraint.name for model in models for constraint in model._meta.constraints}
    return {name for name in names if not name.endswith("_is_known")}
