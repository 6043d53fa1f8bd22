"""Sends cases of the bad-input catalogue with Django's test client."""

import re
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.test import Client

from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from tests.builders.tenancy import Caller, make_caller

_PLACEHOLDER = re.compile(r"\{\{([A-Z][A-Z0-9_]*)([-+][0-9]+[a-z]*)?(:[^{}]*)?\}\}")


class Catalogue:
    """Fills placeholders for two tenants and sends cases."""

    def __init__(self, a: Caller, b: Caller) -> None:
        self.a, self.b = a, b
        self.now: datetime = clock.now()
        self.reader = make_caller(a.tenant, scopes=["project:read", "events:read", "usage:read"])

    def _filled(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name, offset = match[1], match[2]
            if name == "NOW":
                return rfc3339(self.now + _delta(offset or "+0s"))
            known = {
                "TENANT_A": self.a.tenant.key,
                "TENANT_B": self.b.tenant.key,
                "KEY_A": self.a.plaintext,
                "KEY_B": self.b.plaintext,
                "KEY_A_READ": self.reader.plaintext,
                "T0": rfc3339(self.now - timedelta(hours=1)),
                "UUID": str(uuid.uuid4()),
            }
            return known[name]

        return _PLACEHOLDER.sub(value, text)

    def send(self, case: dict[str, Any]) -> list[Any]:
        """The answers to the case, one per repetition."""
        answers = []
        for _ in range(int(case.get("repeat", 1))):
            body = self._filled(self._body(case))
            headers = {name: self._filled(value) for name, value in case["headers"].items()}
            content_type = headers.pop("Content-Type", "application/json")
            answers.append(
                Client().generic(
                    case["method"],
                    self._filled(case["path"]),
                    body.encode("utf-8"),
                    content_type,
                    headers=headers,
                )
            )
        return answers

    def _body(self, case: dict[str, Any]) -> str:
        plan = case.get("generate")
        if not plan:
            return str(case["body"])
        template = str(plan["template"])
        if plan["op"] == "template":
            text = str(plan["X"]["repeat"]).replace("\n", "\\n")
            return template.replace("<<X>>", text * plan["X"]["times"])
        if plan["op"] == "list":
            items = [str(plan["item"]).replace("<<i>>", str(i + 1)) for i in range(plan["count"])]
            return template.replace("<<X>>", ",".join(items))
        raise NotImplementedError(plan["op"])


def _delta(offset: str) -> timedelta:
    match = re.fullmatch(r"([-+]\d+)([smhd])", offset)
    assert match is not None
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})
