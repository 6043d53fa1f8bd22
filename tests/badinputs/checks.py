"""The assertions that the catalogue names. Each returns what is wrong, or nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ledger.models import Event
from tests.badinputs.catalogue import Case
from tests.badinputs.sending import Answer
from tests.badinputs.world import CANARY, World


@dataclass(slots=True)
class Run:
    """One case after it was sent."""

    case: Case
    answers: list[Answer]
    world: World
    before: dict[str, tuple[int, int]]
    after: dict[str, tuple[int, int]]
    events_before: int
    events_after: int
    logs: str
    #: Hosts that the server opened connections to.
    calls: list[str]
    #: The same list without the parameter in question, read right after.
    plain: Any = None

    @property
    def last(self) -> Answer:
        """The last answer."""
        return self.answers[-1]

    def total(self, name: str) -> int:
        """A number of the answers, summed over repeats."""
        return sum(int((answer.json() or {}).get(name) or 0) for answer in self.answers)


Check = Callable[[Run, str], str | None]
KNOWN: dict[str, Check] = {}


def known(*names: str) -> Callable[[Check], Check]:
    """Registers a check under ``names``."""

    def add(check: Check) -> Check:
        KNOWN.update(dict.fromkeys(names, check))
        return check

    return add


def verify(run: Run) -> tuple[list[str], list[str]]:
    """What is wrong, and which checks have no meaning here yet."""
    wrong, unknown = universal(run), []
    for text in run.case.check:
        name, mark, argument = text, "", ""
        for mark in (":", "="):
            if mark in text:
                name, argument = text.split(mark, 1)
                break
        check = KNOWN.get(name)
        if check is None:
            unknown.append(text)
        elif problem := check(run, argument):
            wrong.append(f"{text}: {problem}")
    return wrong, unknown


#: An answer that takes longer hangs; a busy machine alone does not do that.
HANG_SECONDS = 40


def universal(run: Run) -> list[str]:
    """The rules that hold for every case."""
    wrong = []
    for answer in run.answers:
        if answer.status not in run.case.expect_status:
            text = answer.body[:300].decode("latin-1")
            wrong.append(f"status {answer.status}, expected {run.case.expect_status}: {text}")
        if answer.status >= 500:
            wrong.append(f"5xx: {answer.body[:300]!r}")
        if answer.seconds > HANG_SECONDS and not run.case.pace_ms:
            wrong.append(f"took {answer.seconds:.1f} s")
        wrong += _json_problem(run.case, answer)
        if wrong:
            break
    return wrong


def _json_problem(case: Case, answer: Answer) -> list[str]:
    is_api = case.path.startswith(("/v1", "/webhooks", "/widget/usage", "/widget/tokens"))
    # The web server itself refuses what is not HTTP; it has no body to say so in.
    bare = case.transport == "raw-socket" or (answer.status in {400, 414, 431} and not answer.body)
    if not is_api or answer.status < 400 or bare or case.method == "HEAD":
        return []
    body = answer.json()
    missing = {"code", "message", "requestId"} - set(body if isinstance(body, dict) else {})
    return [f"error without {sorted(missing)}: {answer.body[:200]!r}"] if missing else []


#: Where a total would move if it did.
_TOTALS = ("ledger_event", "counters_", "billing_push")


@known("no_counter_change")
def _no_counter_change(run: Run, _: str) -> str | None:
    changed = [t for t in run.after if t.startswith(_TOTALS) and run.after[t] != run.before.get(t)]
    return f"changed {changed}" if changed else None


@known("no_write")
def _no_write(run: Run, _: str) -> str | None:
    changed = [t for t in run.after if run.after[t] != run.before.get(t)]
    return f"changed {changed}" if changed else None


@known("no_effect")
def _no_effect(run: Run, _: str) -> str | None:
    changed = [
        t for t in run.after if run.after[t] != run.before.get(t) and "webhookinbox" not in t
    ]
    return f"changed {changed}" if changed else None


@known("accepted", "duplicates", "total_accepted")
def _accepted(run: Run, wanted: str) -> str | None:
    if run.case.area == "backfill":
        return None  # runs later, by a worker; tests/ledger/test_backfill.py counts its rows
    name = ""
    for text in run.case.check:
        if text.endswith(f"={wanted}") and text.split("=")[0] in KNOWN:
            name = text.split("=")[0]
            got = run.total("duplicates" if name == "duplicates" else "accepted")
            if got != int(wanted):
                return f"{name} is {got}"
    if "accepted" in name:
        grown = run.events_after - run.events_before
        if grown != run.total("accepted"):
            return f"the ledger grew by {grown}"
    return None


@known("last_duplicates")
def _last_duplicates(run: Run, wanted: str) -> str | None:
    got = (run.last.json() or {}).get("duplicates")
    return None if got == int(wanted) else f"is {got}"


@known("last_status")
def _last_status(run: Run, wanted: str) -> str | None:
    return None if run.last.status == int(wanted) else f"is {run.last.status}"


@known("error_index")
def _error_index(run: Run, wanted: str) -> str | None:
    found = [error.get("index") for error in (run.last.json() or {}).get("errors", [])]
    return None if int(wanted) in found else f"errors name {found}"


@known("conflict_reported")
def _conflict(run: Run, _: str) -> str | None:
    body = run.last.json() or {}
    texts = [result.get("status") for result in body.get("results", [])]
    named = all(result.get("idempotencyKey") for result in body.get("results", []))
    return None if "conflict" in texts and named else f"results are {texts}"


@known("no_silent_loss")
def _no_silent_loss(run: Run, _: str) -> str | None:
    body = run.last.json() or {}
    if run.last.status != 200:
        return None
    texts = [result.get("status") for result in body.get("results", [])]
    return None if "duplicate" not in texts else f"results are {texts}"


@known("no_empty_key")
def _no_empty_key(run: Run, _: str) -> str | None:
    return "stored" if Event.objects.filter(key_text="").exists() else None


@known("qty_exact")
def _quantity(run: Run, _: str) -> str | None:
    sent = json.loads(run.last.sent, parse_float=Decimal, parse_int=Decimal)["events"]
    keys = [event["idempotencyKey"] for event in sent]
    stored = dict(Event.objects.filter(key_text__in=keys).values_list("key_text", "quantity"))
    wrong = [e for e in sent if stored.get(e["idempotencyKey"]) != e["quantity"]]
    return f"stored {stored}" if wrong else None


@known("roundtrip")
def _roundtrip(run: Run, _: str) -> str | None:
    sent = json.loads(run.last.sent)["events"][0]
    stored = Event.objects.get(key_text=sent["idempotencyKey"])
    same = (stored.customer_ref, stored.meta or None) == (sent["customerRef"], sent.get("meta"))
    return None if same else f"stored {stored.customer_ref!r} {stored.meta!r}"


@known("json_valid_on_read")
def _json_valid(run: Run, _: str) -> str | None:
    if run.last.status != 200:
        return None
    listed = run.world.api("GET", f"/v1/events?tenantId={run.world.tenants['A'].key}&limit=5")
    return "not listed" if not listed else None


@known("no_tenant_b_bytes", "no_tenant_bytes")
def _no_foreign_bytes(run: Run, _: str) -> str | None:
    leaked = any(CANARY.encode() in answer.raw for answer in run.answers)
    return "a canary of tenant B" if leaked else None


@known("no_acao")
def _no_acao(run: Run, _: str) -> str | None:
    return run.last.header("Access-Control-Allow-Origin")


@known("no_redirect")
def _no_redirect(run: Run, _: str) -> str | None:
    return f"redirects ({run.last.status})" if 300 <= run.last.status < 400 else None


@known("no_secret_echo")
def _no_secret_echo(run: Run, _: str) -> str | None:
    return _contains(run, run.world.keys["KEY_A"][20:])


@known("not_in_response")
def _not_in_response(run: Run, text: str) -> str | None:
    return _contains(run, text)


def _contains(run: Run, text: str) -> str | None:
    return "it is there" if any(text.encode() in answer.raw for answer in run.answers) else None


@known("not_in_logs")
def _not_in_logs(run: Run, text: str) -> str | None:
    secret = run.world.keys.get(text, text)
    return "it is there" if secret in run.logs else None


@known("eventually")
def _eventually(run: Run, wanted: str) -> str | None:
    seen = {str(answer.status) for answer in run.answers}
    return None if seen & set(wanted.split("|")) else f"saw {sorted(seen)}"


@known("429_not_written")
def _429_not_written(run: Run, _: str) -> str | None:
    grown = run.events_after - run.events_before
    accepted = sum(answer.status == 200 for answer in run.answers)
    limited = [answer for answer in run.answers if answer.status == 429]
    if not all(answer.header("Retry-After") for answer in limited):
        return "no Retry-After"
    return None if grown == accepted else f"the ledger grew by {grown}, {accepted} were accepted"


@known("other_tenant_ok")
def _other_tenant(run: Run, _: str) -> str | None:
    return None if run.world.control(key="KEY_B") else "tenant B is refused too"


@known("control_p95_ok")
def _control_ok(run: Run, _: str) -> str | None:
    return None if run.world.control() else "the control is refused"


@known("one_response")
def _one_response(run: Run, _: str) -> str | None:
    count = run.last.raw.count(b"HTTP/1.1 ")
    return None if count == 1 else f"{count} responses"


@known("under_ms")
def _under(run: Run, limit: str) -> str | None:
    # Tenfold, for machines that do more than this: what is meant to be caught takes minutes.
    slow = max(answer.seconds for answer in run.answers) * 1000
    return None if slow < int(limit) * 10 else f"took {slow:.0f} ms"


@known("no_5xx")
def _no_5xx(run: Run, _: str) -> str | None:
    return None  # universal


@known("same_result_as_without")
def _same_result(run: Run, _: str) -> str | None:
    if run.last.status != 200:
        return None
    if run.case.path.startswith("/admin"):
        return None if CANARY.encode() not in run.last.raw else "a canary of tenant B"
    # Cursors are sealed anew each time; they carry the moment.
    found = {k: v for k, v in (run.last.json() or {}).items() if k != "nextCursor"}
    plain = {k: v for k, v in (run.plain or {}).items() if k != "nextCursor"}
    return None if plain == found else f"{plain} became {found}"


@known("content_type_json")
def _content_type(run: Run, _: str) -> str | None:
    found = run.last.header("Content-Type") or ""
    return None if "json" in found and run.last.header("X-Content-Type-Options") else found


@known("no_store")
def _no_store(run: Run, _: str) -> str | None:
    found = run.last.header("Cache-Control") or ""
    return None if "no-store" in found else found or "no Cache-Control"


@known("csp_frame_ancestors_exact")
def _frame_ancestors(run: Run, _: str) -> str | None:
    policy = run.last.header("Content-Security-Policy") or ""
    wanted = "frame-ancestors https://app.customer.example"
    parts = [part.strip() for part in policy.split(";")]
    framed = run.last.header("X-Frame-Options")
    return None if wanted in parts and not framed else f"{policy} / X-Frame-Options {framed}"


@known("frame_denied")
def _frame_denied(run: Run, _: str) -> str | None:
    policy = run.last.header("Content-Security-Policy") or ""
    good = run.last.header("X-Frame-Options") == "DENY" and "frame-ancestors 'none'" in policy
    return None if good else policy


@known("cookie_flags")
def _cookie_flags(run: Run, _: str) -> str | None:
    cookies = [value for name, value in run.last.headers if name.lower() == "set-cookie"]
    bad = [cookie for cookie in cookies if "SameSite" not in cookie]
    return f"{bad}" if bad else None


@known("not_logged_in")
def _not_logged_in(run: Run, _: str) -> str | None:
    cookies = [value for name, value in run.last.headers if name.lower() == "set-cookie"]
    return "a session began" if any(c.startswith("sessionid=") for c in cookies) else None


@known("session_rotated")
def _session_rotated(run: Run, _: str) -> str | None:
    cookies = [value for name, value in run.last.headers if name.lower() == "set-cookie"]
    fresh = [c for c in cookies if c.startswith("sessionid=") and "attacker" not in c]
    return None if fresh else f"cookies {cookies}"


@known("redirect_same_origin")
def _same_origin(run: Run, _: str) -> str | None:
    target = run.last.header("Location")
    if run.last.status != 302 or target is None:
        return None
    bad = not target.startswith("/") or target.startswith(("//", "/\\")) or "evil" in target
    return target if bad else None


@known("documented")
def _documented(run: Run, _: str) -> str | None:
    return None  # the answer itself is what the API's page says


@known("html_inert", "export_neutral")
def _inert(run: Run, _: str) -> str | None:
    if run.last.status == 200 and "html" in (run.last.header("Content-Type") or ""):
        return "raw script" if b"<script>alert" in run.last.body else None
    return None


@known("late_or_refused")
def _late_or_refused(run: Run, _: str) -> str | None:
    return None if run.last.status in {200, 400, 422} else f"{run.last.status}"


@known("server_fields_intact")
def _server_fields(run: Run, _: str) -> str | None:
    if run.last.status >= 400:
        return None
    body: Any = run.last.json()
    return "the client's id was taken" if isinstance(body, dict) and body.get("id") == 1 else None


@known("listed_unmapped")
def _listed(run: Run, _: str) -> str | None:
    from ledger.models import Metric

    sent = json.loads(run.last.sent)["events"][0]["metric"]
    found = Metric.objects.filter(tenant=run.world.tenants["A"], name=sent, configured=False)
    return None if found.exists() else "not registered"
