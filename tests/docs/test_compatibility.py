"""The table of compatibility names each method of each route of the resolver once, and no other."""

import re
from collections import Counter
from typing import Any

from django.urls import get_resolver

from tests.docs.pages import page
from tests.tenancy.test_tenant_matrix import METHODS, _patterns

_ROW = re.compile(r"^\| `(GET|POST|PUT|PATCH|DELETE) (/[^`]*)` \| (.*) \|$", re.MULTILINE)
_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|\(\?P<[^)]*\)")
#: Not for callers: the way to the operators' pages, and those.
_PEOPLES = ("", "favicon.ico")
#: Rows of what the predecessor had and this service refuses to have.
_REFUSED = "refused: "


def _name(path: str) -> str:
    bare = _PARAMETER.sub("{}", path.strip("^$/"))
    return "/" + bare


def _methods(view: Any) -> set[str]:
    """Those of an API view; a plain view says itself what it takes."""
    found = {name for name in METHODS if hasattr(getattr(view, "cls", None), name.lower())}
    return found or {"*"}


def routes() -> set[tuple[str, str]]:
    """Every (method, path); the method ``*`` where the view decides."""
    found: set[tuple[str, str]] = set()
    for pattern, view in _patterns(get_resolver().url_patterns):
        if pattern not in _PEOPLES and not pattern.startswith("admin/"):
            found |= {(method, _name(pattern)) for method in _methods(view)}
    return found


def test_every_method_of_every_route_has_one_row_and_no_row_is_left_over() -> None:
    rows = _ROW.findall(page("docs/compatibility.md").text)
    kept = [(method, _name(path)) for method, path, said in rows if not said.startswith(_REFUSED)]
    assert [row for row, times in Counter(kept).items() if times > 1] == []
    there = routes()
    plain = {path for method, path in there if method == "*"}
    assert plain == {path for _, path in kept if path in plain}, "name them on the page"
    named = {row for row in kept if row[1] not in plain}
    assert named == {row for row in there if row[1] not in plain}


def test_every_row_says_what_became_of_the_route() -> None:
    text = page("docs/compatibility.md").text.partition("## New here")[0]
    for method, path, said in _ROW.findall(text):
        word = said.replace(",", ":").replace(";", ":").split(":")[0].split(" ")[0]
        assert word in {"same", "changed", "refused", "new", "the"}, (method, path, said)
