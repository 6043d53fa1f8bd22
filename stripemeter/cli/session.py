"""A command's connection to the service: address, key, tenant, and how refusals are told."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import httpx

from stripemeter.lib import strictjson

ATTEMPTS_MAX = 5
#: Exit codes: 1 something is wrong with the data or the answer, 2 wrong use or unreachable.
FAILED, UNUSABLE = 1, 2


class Unusable(click.ClickException):
    """The service cannot be reached or refuses the key."""

    exit_code = UNUSABLE


class Refused(click.ClickException):
    """The service refused a request; the message is its own."""

    exit_code = FAILED


@dataclass(frozen=True, slots=True)
class Session:
    """Calls the API for one tenant."""

    url: str
    key: str
    tenant: str

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: dict[str, Any] | None = None,
    ) -> Any:
        """The answer's JSON. Retries what may be retried. Raises `Refused`, `Unusable`."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        content = None if body is None else strictjson.dumps(body)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                response = httpx.request(
                    method, self.url + path, params=query, content=content, headers=headers,
                    timeout=60, trust_env=False,
                )  # fmt: skip
            except httpx.TransportError as error:
                if attempt == ATTEMPTS_MAX or (method == "POST" and "/ingest" not in path):
                    raise Unusable(f"{self.url} cannot be reached: {error}") from error
            else:
                if response.status_code not in {429, 503} or attempt == ATTEMPTS_MAX:
                    return read_answer(response)
            time.sleep(min(2**attempt * 0.25, 5))
        raise AssertionError("unreachable")

    def pages(self, path: str, member: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every row of a cursor-paged list."""
        cursor = None
        while True:
            wanted = {**query, **({"cursor": cursor} if cursor else {})}
            answer = self.call("GET", path, query=wanted)
            yield from answer[member]
            cursor = answer.get("nextCursor")
            if not cursor:
                return


def pass_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the session first; its address, key and tenant may also be named after the command."""

    @click.option("--tenant", "own_tenant", help="as before the command")
    @click.option("--api-key", "own_key", help="as before the command")
    @click.option("--api-url", "own_url", help="as before the command")
    @click.pass_obj
    @wraps(command)
    def run(
        session: Session,
        /,
        *arguments: Any,
        own_tenant: str | None,
        own_key: str | None,
        own_url: str | None,
        **options: Any,
    ) -> Any:
        named = Session(
            session.url if own_url is None else own_url.rstrip("/"),
            session.key if own_key is None else own_key,
            session.tenant if own_tenant is None else own_tenant,
        )
        return command(named, *arguments, **options)

    return run


def read_answer(response: httpx.Response) -> Any:
    """The JSON of a successful answer. Raises `Refused`, `Unusable` with the service's words."""
    if response.is_success:
        return strictjson.loads(response.content) if response.content else None
    try:
        problem = response.json()
        told = f"{problem['detail']} ({problem['code']}, request {problem['requestId']})"
    except (ValueError, KeyError):
        told = response.text[:300]
    kind = Unusable if response.status_code in {401, 403} else Refused
    raise kind(f"{response.status_code}: {told}")


def show(value: Any) -> None:
    """Print an answer as JSON, digit for digit."""
    click.echo(strictjson.dumps(value).decode("utf-8"))
