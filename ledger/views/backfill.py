"""The backfill wizard: choose a file, say what its columns are, look, start.

A look sends the file and stores nothing; a start sends it again, so no upload waits anywhere.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from datetime import date
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_http_methods, require_POST

from ledger import selectors, tasks
from ledger.files import BadLine, Record
from ledger.services import backfill
from ledger.services.backfill_check import check_rows
from ledger.uploads import text_of
from stripemeter.lib import clock, text
from stripemeter.lib.errors import InvalidRequest, ProblemError, invalid
from stripemeter.lib.wakeup import wake
from stripemeter.tenancy.operators import operator_page

_COLUMNS_MAX = 100
_HEADER_CHARS = 65_536


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def backfill_page(request: Any) -> HttpResponse:
    """The wizard; a POST starts the backfill."""
    operator, problem = request.operator, None
    if request.method == "POST":
        try:
            declared, rows = _read(request)
            operation = backfill.create_backfill(
                tenant_id=operator.tenant.pk,
                tenant_key=operator.tenant.key,
                rows=rows,
                declared=declared,
                actor=operator.actor,
                now=clock.now(),
            )
        except ProblemError as refused:
            problem = refused
        except (gzip.BadGzipFile, EOFError, zlib.error):
            problem = InvalidRequest("The file is not a whole gzip file.")
        else:
            wake(tasks.backfill)
            messages.success(request, "Started. Rows that cannot be stored are listed below.")
            return redirect("ops:operation", operation_id=operation.id)
    context = _page(request, problem)
    return render(request, "ledger/backfill.html", context, status=context["status"])


def _page(request: Any, problem: ProblemError | None) -> dict[str, Any]:
    return {
        "title": "Backfill",
        "problem": problem,
        "said": _said(problem),
        "status": problem.status if problem else 200,
        "given": request.POST,
        "metrics": sorted(selectors.metric_names(request.operator.tenant.pk).values()),
        "columns": [],
    }


def _said(problem: ProblemError | None) -> str:
    """What is wrong, without the name that the API has for a file's text."""
    return problem.detail.removeprefix("csvData: ") if problem else ""


@require_POST
@operator_page("maintainer")
def check(request: Any) -> HttpResponse:
    """What the file would store. As a fragment under the form, or as the whole page."""
    context = _page(request, None)
    try:
        context |= _columns(request)
        declared, rows = _read(request)
        context["check"] = check_rows(
            rows, declared=declared, tenant_key=request.operator.tenant.key
        )
        context["declared"] = declared
    except ProblemError as refused:
        context["problem"] = refused
    except (gzip.BadGzipFile, EOFError, zlib.error):
        context["problem"] = InvalidRequest("The file is not a whole gzip file.")
    context["said"] = _said(context["problem"])
    if request.htmx:
        # What is wrong with a file is the answer of a look, not a failure of it.
        response = render(request, "ledger/_backfill_check.html", context)
    else:
        status = context["problem"].status if context["problem"] else 200
        response = render(request, "ledger/backfill.html", context, status=status)
    patch_cache_control(response, no_store=True)
    return response


def _upload(request: Any) -> tuple[Any, str, bool]:
    """The file, its format, and whether it is gzipped."""
    files = request.FILES.getlist("file")
    if len(files) != 1:
        raise invalid("file", "choose one file")
    name = (files[0].name or "").lower()
    compressed = name.endswith(".gz")
    kind = "csv" if name.removesuffix(".gz").endswith(".csv") else "ndjson"
    return files[0], kind, compressed


def _columns(request: Any) -> dict[str, Any]:
    """The file's columns with the field each is taken for, to choose from."""
    upload, kind, compressed = _upload(request)
    if kind != "csv":
        return {"columns": [], "kind": kind}
    reader = text_of(upload, compressed=compressed)
    header = backfill.header_of(io.StringIO(reader.readline(_HEADER_CHARS), newline=""))
    reader.detach()
    upload.seek(0)
    mapping = _mapping(request)
    columns = [
        {"place": place, "name": name, "field": mapping.get(name, backfill.field_of(name))}
        for place, name in enumerate(header[:_COLUMNS_MAX])
    ]
    return {"columns": columns, "kind": kind, "fields": backfill.FIELDS}


def _mapping(request: Any) -> dict[str, str]:
    """Which field each column is, by what was chosen: ``column-0`` names it, ``field-0`` says."""
    mapping: dict[str, str] = {}
    for place in range(_COLUMNS_MAX):
        name = request.POST.get(f"column-{place}")
        if name is None:
            break
        mapping[name] = request.POST.get(f"field-{place}", "")
    return mapping


def _read(request: Any) -> tuple[backfill.Declared, Iterator[Record | BadLine]]:
    upload, kind, compressed = _upload(request)
    declared = _declared(request, kind)
    reader = text_of(upload, compressed=compressed)
    if kind == "ndjson":
        return declared, backfill.read_ndjson(reader)
    return declared, backfill.read_csv(reader, declared=declared, mapping=_offered(request))


def _offered(request: Any) -> dict[str, str]:
    """The chosen mapping; before anything was chosen, unknown columns are left out."""
    chosen = _mapping(request)
    if chosen:
        return chosen
    return {column["name"]: column["field"] for column in _columns(request)["columns"]}


def _declared(request: Any, kind: str) -> backfill.Declared:
    given = {
        name: str(request.POST.get(name, "")).strip()
        for name in ("metric", "customerRef", "periodStart", "periodEnd", "reason")
    }
    if not given["reason"] or len(given["reason"]) > 500 or text.FORBIDDEN.search(given["reason"]):
        raise invalid("reason", "say why, in at most 500 plain characters")
    problem = text.reference_problem(given["customerRef"]) if given["customerRef"] else None
    if problem:
        raise invalid("customer", problem)
    start = _day("first day", given["periodStart"])
    end = _day("last day", given["periodEnd"]) if given["periodEnd"] else None
    return backfill.Declared(
        start=start,
        end=end or backfill.end_of_month(start),
        reason=given["reason"],
        source_type=kind,
        metric=given["metric"] or None,
        customer_ref=given["customerRef"] or None,
    )


def _day(name: str, written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError as error:
        raise invalid(name, "must be a day such as 2026-11-01") from error
