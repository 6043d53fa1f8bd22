"""What list pages share: clean filters from the query, and links between keyset pages."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

from stripemeter.lib import cursors, text
from stripemeter.lib.errors import InvalidRequest

PAGE_ROWS = 50


def filters_of(request: HttpRequest, *names: str) -> dict[str, str]:
    """The named query parameters, trimmed; text that no stored value can hold counts as none."""
    found = {}
    for name in names:
        value = request.GET.get(name, "").strip()
        found[name] = "" if text.FORBIDDEN.search(value) else value[: text.REFERENCE_CHARS_MAX]
    return found


@dataclass
class Pager:
    """Where a page of a list stands: reads the cursor of the request, makes the next link."""

    request: HttpRequest
    tenant_key: str
    listing: str
    filters: dict[str, str]
    #: Shown above the list, for example that a link has expired.
    problem: str = ""
    after: Any = field(default=None, init=False)
    following: str = field(default="", init=False)

    def __post_init__(self) -> None:
        raw = self.request.GET.get("cursor", "")
        if not raw:
            return
        try:
            self.after = cursors.decode(
                raw, tenant_key=self.tenant_key, listing=self.listing, filters=self.filters
            )
        except InvalidRequest:
            self.problem = "This page link has expired; the list starts anew."

    def cut(self, rows: list[Any], position: Any) -> list[Any]:
        """At most `PAGE_ROWS` of ``rows`` (fetched one longer); ``position(row)`` is the cursor."""
        if len(rows) > PAGE_ROWS:
            rows = rows[:PAGE_ROWS]
            cursor = cursors.encode(
                position(rows[-1]),
                tenant_key=self.tenant_key,
                listing=self.listing,
                filters=self.filters,
            )
            self.following = urlencode({**self._given(), "cursor": cursor})
        return rows

    def _given(self) -> dict[str, str]:
        return {name: value for name, value in self.filters.items() if value}

    @property
    def first(self) -> str:
        """Query of the first page."""
        return urlencode(self._given())

    @property
    def is_filtered(self) -> bool:
        """Whether any filter is set."""
        return bool(self._given())


def back(request: HttpRequest, default: str) -> HttpResponseRedirect:
    """To the page the form names in ``next``, if it is one of ours, else to ``default``."""
    wanted = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()})
    return HttpResponseRedirect(wanted if safe and wanted.startswith("/") else default)
