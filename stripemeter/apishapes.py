"""Answers that views build by hand, described field by field for the API's description.

Keyed by operation id. Tests hold live answers to these, so a field that is renamed there
and not here fails.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NULL_TEXT: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object", "additionalProperties": True}
NULL_OBJECT: Schema = {"type": ["object", "null"], "additionalProperties": True}
UUID: Schema = {"type": "string", "format": "uuid"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
NULL_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}
NUMBER: Schema = {"type": ["number", "string"], "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
NULL_NUMBER: Schema = {"type": ["number", "string", "null"]}


def record(**fields: Schema) -> Schema:
    """An object whose fields are all there."""
    return {"type": "object", "required": list(fields), "properties": fields}


def sometimes(schema: Schema, *names: str) -> Schema:
    """The object ``schema``, whose fields ``names`` may be absent."""
    required = [name for name in schema["required"] if name not in names]
    return {**schema, "required": required}


def rows(of: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": of}


def ref(name: str) -> Schema:
    """A component."""
    return {"$ref": f"#/components/schemas/{name}"}


def table(of: Schema) -> Schema:
    """An object from names to values of one shape."""
    return {"type": "object", "additionalProperties": of}


_PERIOD = record(start=INSTANT, end=INSTANT)
_DRIFT = {"local": NUMBER, "stripe": NUMBER, "drift_abs": NUMBER, "drift_pct": NUMBER}
_SUMMARY_BY_MONTHS = record(
    periodStart=TEXT,
    periodEnd=TEXT,
    perMetric=rows(record(metric=TEXT, **_DRIFT, items=WHOLE)),
    overall=record(**_DRIFT, metrics=WHOLE, items=WHOLE),
)
_BY_CUSTOMER = record(total=NUMBER, byCustomer=table(NUMBER))
_SUMMARY_OF_METRIC = sometimes(
    record(
        tenantId=TEXT,
        metric=TEXT,
        customerRef=TEXT,
        period=_PERIOD,
        reconciliation=record(
            localTotal=NUMBER,
            stripeTotal=NUMBER,
            drift=NUMBER,
            driftPercentage=NUMBER,
            status={
                "enum": ["parity", "drift_detected", "drift_critical", "reconciliation_needed"]
            },
            settlingItems=WHOLE,
            lastChecked=NULL_INSTANT,
        ),
        counters=record(beforeReplay=_BY_CUSTOMER, afterReplay=_BY_CUSTOMER),
        events=OBJECT,
    ),
    "customerRef",
)
_REPORT = record(
    id=TEXT,
    tenantId=TEXT,
    subscriptionItemId=NULL_TEXT,
    mappingId=TEXT,
    metric=TEXT,
    customerRef=TEXT,
    mode=TEXT,
    periodStart=INSTANT,
    localTotal=NUMBER,
    stripeTotal=NULL_NUMBER,
    diff=NULL_NUMBER,
    status={"enum": ["ok", "investigate", "resolved"]},
    verdict=TEXT,
    causes=rows({}),
    createdAt=INSTANT,
)
_SUGGESTED = record(
    id={"type": ["integer", "string"]},
    tenantId=TEXT,
    metric=TEXT,
    customerRef=TEXT,
    periodStart=INSTANT,
    delta=NUMBER,
    reason=TEXT,
    actor=TEXT,
    createdAt=INSTANT,
)
_SCENARIO = {
    "id": UUID,
    "name": TEXT,
    "description": NULL_TEXT,
    "version": TEXT,
    "tags": rows(TEXT),
    "active": FLAG,
    "createdAt": INSTANT,
    "updatedAt": INSTANT,
}
_RUN = record(
    id=UUID,
    tenantId=TEXT,
    scenarioId={"type": ["string", "null"], "format": "uuid"},
    name=NULL_TEXT,
    description=NULL_TEXT,
    runType=TEXT,
    scenarioSnapshot=NULL_OBJECT,
    status={"enum": ["pending", "running", "completed", "failed", "cancelled"]},
    startedAt=NULL_INSTANT,
    completedAt=NULL_INSTANT,
    durationMs={"type": ["integer", "null"]},
    result=NULL_OBJECT,
    comparison=NULL_OBJECT,
    passed={"type": ["boolean", "null"]},
    error=NULL_TEXT,
    retryCount=WHOLE,
    triggeredBy=NULL_TEXT,
    metadata=NULL_OBJECT,
    createdAt=INSTANT,
)
_BATCH = record(
    id=UUID,
    name=TEXT,
    description=NULL_TEXT,
    status={"enum": ["pending", "running", "completed", "failed", "partial"]},
    createdAt=INSTANT,
    summary=record(
        totalRuns=WHOLE,
        completed=WHOLE,
        failed=WHOLE,
        pending=WHOLE,
        running=WHOLE,
        successRate=NUMBER,
    ),
    runs=rows(
        record(
            id=UUID,
            status=TEXT,
            scenarioId=NULL_TEXT,
            passed={"type": ["boolean", "null"]},
            error=NULL_TEXT,
        )
    ),
)
_BACKFILL_FIELDS = {
    "id": UUID,
    "tenantId": TEXT,
    "metric": NULL_TEXT,
    "customerRef": NULL_TEXT,
    "periodStart": TEXT,
    "periodEnd": TEXT,
    "status": TEXT,
    "reason": TEXT,
    "actor": TEXT,
    "totalEvents": WHOLE,
    "processedEvents": WHOLE,
    "acceptedEvents": WHOLE,
    "failedEvents": WHOLE,
    "duplicateEvents": WHOLE,
    "sourceType": TEXT,
    "errorMessage": NULL_TEXT,
    "startedAt": NULL_INSTANT,
    "completedAt": NULL_INSTANT,
    "createdAt": INSTANT,
    "updatedAt": NULL_INSTANT,
}
_FAILED_ROW = record(line=WHOLE, code=TEXT, error=TEXT)
_PAGE = {"total": WHOLE, "limit": WHOLE, "offset": WHOLE}

#: The 2xx answer of each operation that describes none by a serializer.
ANSWERS: dict[str, Schema] = {
    "approveAdjustments": record(applied=WHOLE, failed=WHOLE, failures=table(TEXT)),
    "listCloses": record(closes=rows(ref("CloseOutput"))),
    "getCloseBoard": record(board=OBJECT, close={"oneOf": [ref("CloseOutput"), {"type": "null"}]}),
    "getCertificate": record(
        certificate=NULL_OBJECT,
        sha256=TEXT,
        signature=TEXT,
        valid=FLAG,
        mismatches=rows({}),
    ),
    "listExports": record(exports=rows(ref("ExportOutput"))),
    "getReconciliationSummary": {"anyOf": [_SUMMARY_BY_MONTHS, _SUMMARY_OF_METRIC]},
    "getReconciliationPeriod": record(
        period=TEXT,
        reports=rows(_REPORT),
        suggestedAdjustments=rows(_SUGGESTED),
        summary=record(total=WHOLE, ok=WHOLE, investigating=WHOLE, resolved=WHOLE, maxDiff=NUMBER),
        nextCursor=NULL_TEXT,
    ),
    "listScenarios": record(scenarios=rows(record(**_SCENARIO)), **_PAGE),
    "getScenario": sometimes(
        record(
            **_SCENARIO,
            model=OBJECT,
            inputs=OBJECT,
            expected=NULL_OBJECT,
            tolerances=NULL_OBJECT,
        ),
        "model",
        "inputs",
        "expected",
        "tolerances",
    ),
    "createScenario": record(id=UUID, name=TEXT, createdAt=INSTANT),
    "updateScenario": record(id=UUID, name=TEXT, updatedAt=INSTANT),
    "listSimulationRuns": record(runs=rows(_RUN), **_PAGE),
    "getSimulationRun": _RUN,
    "runScenarioBatch": record(batchId=UUID, totalRuns=WHOLE, message=TEXT),
    "getSimulationBatch": _BATCH,
    "getBackfill": record(**_BACKFILL_FIELDS, errors=rows(_FAILED_ROW)),
    "listBackfills": record(operations=rows(record(**_BACKFILL_FIELDS)), total=WHOLE),
}
#: Operations that answer CSV too, with ``format=csv``.
ALSO_CSV = frozenset({"getReconciliationSummary", "getReconciliationPeriod", "listWhatIfCustomers"})

_POINT = record(ts=INSTANT, value=NULL_NUMBER)
_CHANGE = {
    "type": "object",
    "required": ["eventsFound", "lateEvents", "counterDelta", "affectedCustomers"],
    "properties": {
        "eventsFound": WHOLE,
        "lateEvents": WHOLE,
        "counterDelta": NUMBER,
        "affectedCustomers": rows(TEXT),
    },
}
_TIER_ROW = record(
    tier={"type": ["integer", "null"]},
    kind=TEXT,
    units=NULL_NUMBER,
    unitPrice=NULL_NUMBER,
    flatFee=NULL_NUMBER,
    subtotal=NULL_NUMBER,
)
_LINE = record(
    metric=TEXT,
    quantity=NUMBER,
    billedUnits=NULL_NUMBER,
    unitPrice=NULL_NUMBER,
    total=NULL_NUMBER,
    priceId=NULL_TEXT,
    currency=NULL_TEXT,
    breakdown=rows(_TIER_ROW),
)
#: Fields that a serializer leaves open, by component.
FIELDS: dict[str, dict[str, Schema]] = {
    "CurrentUsageOutput": {
        "period": record(start=TEXT, end=TEXT, startsAt=INSTANT, endsAt=INSTANT),
    },
    "UsageHistoryOutput": {
        "usage": rows(_POINT),
        "series": rows(_POINT),
        "totals": record(value=NULL_NUMBER),
        "timeRange": record(since=INSTANT, until=INSTANT, interval=TEXT, tz=TEXT),
    },
    "ProjectionOutput": {
        "lineItems": rows(_LINE),
        "totals": rows(record(currency=TEXT, subtotal=NULL_NUMBER)),
    },
    "ReplayOutput": {
        "timeRange": record(since=INSTANT, until=INSTANT),
        "changes": table(_CHANGE),
    },
}

_CSV_ROWS = "customerRef,quantity,ts,idempotencyKey\ncus_1,3,2026-10-03T12:00:00Z,old-1\n"
_NDJSON_ROWS = (
    '{"customerRef": "cus_1", "metric": "api_calls", "quantity": 3, "ts": "2026-10-03T12:00:00Z"}\n'
)
_FORM = sometimes(
    record(
        file={"type": "string", "format": "binary", "description": "CSV or NDJSON, also .gz"},
        tenantId=TEXT,
        metric=TEXT,
        customerRef=TEXT,
        periodStart={"type": "string", "format": "date"},
        periodEnd={"type": "string", "format": "date"},
        reason=TEXT,
        format={"enum": ["csv", "ndjson"]},
    ),
    "metric",
    "customerRef",
    "periodEnd",
    "format",
)
#: Bodies beside JSON, by operation; streams are declared by the query parameters below.
MORE_BODIES: dict[str, dict[str, Any]] = {
    "createBackfill": {
        "text/csv": {"schema": TEXT, "example": _CSV_ROWS},
        "application/x-ndjson": {"schema": TEXT, "example": _NDJSON_ROWS},
        "multipart/form-data": {
            "schema": _FORM,
            "example": {
                "file": _CSV_ROWS,
                "tenantId": "acme",
                "metric": "api_calls",
                "periodStart": "2026-10-01",
                "reason": "Queue was down on the 3rd",
            },
        },
    }
}


def _of_a_stream(name: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "schema": {"type": "string", **schema},
        "description": "For a body of CSV or NDJSON, as in the JSON body.",
    }


MORE_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "createBackfill": [
        _of_a_stream("tenantId"),
        _of_a_stream("metric"),
        _of_a_stream("customerRef"),
        _of_a_stream("periodStart", format="date"),
        _of_a_stream("periodEnd", format="date"),
        _of_a_stream("reason", maxLength=500),
    ]
}
