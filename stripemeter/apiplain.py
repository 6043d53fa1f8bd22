"""Routes that are plain views, described by hand: health, metrics, webhooks, the widget's page."""

from typing import Any

from stripemeter.apishapes import (
    FLAG,
    INSTANT,
    NULL_NUMBER,
    NULL_TEXT,
    OBJECT,
    TEXT,
    record,
    rows,
    sometimes,
    table,
)

_JSON = "application/json"
_HTML = "text/html"
_PROBLEMS = ("400", "405", "414", "431", "500", "503")


def _answer(text: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema}}}


def _operation(
    operation_id: str,
    summary: str,
    tag: str,
    answer: dict[str, Any],
    *,
    problems: tuple[str, ...] = _PROBLEMS,
    security: tuple[dict[str, Any], ...] = ({},),
    **more: Any,
) -> dict[str, Any]:
    refused = {one: {"$ref": f"#/components/responses/Problem{one}"} for one in problems}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": [tag],
        "security": list(security),
        "responses": dict(sorted({"200": answer, **refused}.items())),
        **more,
    }


_READY = sometimes(
    record(
        status={"enum": ["healthy", "degraded", "unhealthy"]},
        version=TEXT,
        checks=table(FLAG),
        details=table(TEXT),
        metrics=OBJECT,
    ),
    "version",
    "checks",
    "details",
    "metrics",
)
_USAGE = record(
    customerRef=TEXT,
    period=record(start=TEXT, end=TEXT),
    currency=NULL_TEXT,
    cost=NULL_NUMBER,
    projected=record(total=NULL_NUMBER, low=NULL_NUMBER, high=NULL_NUMBER),
    metrics=rows(OBJECT),
    freshness=OBJECT,
)
_WIDGET: dict[str, Any] = {
    "problems": (*_PROBLEMS, "401", "403", "429"),
    "security": ({"WidgetToken": []},),
}
_SIGNATURE = {
    "name": "Stripe-Signature",
    "in": "header",
    "required": True,
    "schema": TEXT,
    "description": "`t=<unix seconds>,v1=<HMAC-SHA256 of t.body>`; checked on the raw bytes.",
}
_EVENT_BODY = {"required": True, "content": {_JSON: {"schema": OBJECT}}}
_METRIC = {"name": "metric", "in": "query", "required": True, "schema": TEXT}


def _webhook(operation_id: str, summary: str) -> dict[str, Any]:
    return _operation(
        operation_id,
        summary,
        "Webhooks",
        _answer("Stored; processed from the inbox.", _JSON, record(received=FLAG)),
        problems=(*_PROBLEMS, "413", "415"),
        parameters=[_SIGNATURE],
        requestBody=_EVENT_BODY,
    )


def plain_paths() -> dict[str, Any]:
    """Path, method, operation."""
    ready = _operation(
        "healthReady",
        "Every part works; 503 with the same body if not. Outsiders see the status only.",
        "Health",
        _answer("Ready.", _JSON, _READY),
        problems=("405", "414", "431", "500"),
    )
    ready["responses"]["503"] = _answer("Some part does not work.", _JSON, _READY)
    health = sometimes(record(status={"const": "ok"}, timestamp=INSTANT), "timestamp")
    return {
        "/health": {
            "get": _operation(
                "health", "The web process answers.", "Health", _answer("It does.", _JSON, health)
            )
        },
        "/health/live": {
            "get": _operation(
                "healthLive",
                "The web process lives; nothing else is asked.",
                "Health",
                _answer("It does.", _JSON, record(status={"const": "alive"})),
            )
        },
        "/health/ready": {"get": ready},
        "/metrics": {
            "get": _operation(
                "metrics",
                "Prometheus text; in production for internal addresses and the metrics token.",
                "Health",
                _answer("The numbers of all processes.", "text/plain", TEXT),
                problems=(*_PROBLEMS, "404"),
            )
        },
        "/webhooks/stripe": {"post": _webhook("stripeWebhook", "Take a snapshot event of Stripe.")},
        "/webhooks/stripe/thin": {
            "post": _webhook("stripeThinWebhook", "Take a thin event of Stripe.")
        },
        **_widget_paths(),
    }


def _embed() -> dict[str, Any]:
    found = _operation(
        "widgetEmbed",
        "The page that embed.js frames.",
        "Widget",
        _answer("A page that only the token's origins may frame.", _HTML, TEXT),
        parameters=[{"name": "token", "in": "query", "schema": TEXT}],
    )
    for status in ("401", "403"):
        found["responses"][status] = _answer("A page that says so.", _HTML, TEXT)
    return found


def _widget_paths() -> dict[str, Any]:
    return {
        "/widget/embed": {"get": _embed()},
        "/widget/usage": {
            "get": _operation(
                "widgetUsage",
                "What the page shows, as data.",
                "Widget",
                _answer("Usage of the token's customer.", _JSON, _USAGE),
                **_WIDGET,
            )
        },
        "/widget/usage/body": {
            "get": _operation(
                "widgetBody",
                "What the page shows, as HTML.",
                "Widget",
                _answer("A fragment.", _HTML, TEXT),
                **_WIDGET,
            )
        },
        "/widget/usage/events": {
            "get": _operation(
                "widgetEvents",
                "Newest events of one metric, as HTML.",
                "Widget",
                _answer("A fragment.", _HTML, TEXT),
                problems=(*_WIDGET["problems"], "404"),
                security=_WIDGET["security"],
                parameters=[_METRIC],
            )
        },
        "/widget/usage/events.csv": {
            "get": _operation(
                "widgetEventsCsv",
                "Events of one metric, as CSV.",
                "Widget",
                _answer("A file.", "text/csv", TEXT),
                problems=(*_WIDGET["problems"], "404"),
                security=_WIDGET["security"],
                parameters=[_METRIC],
            )
        },
    }
