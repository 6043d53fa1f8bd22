"""Operator pages of reconciliation."""

from reconciliation.views.close_pages import (
    certificate,
    certificate_check,
    certify,
    close,
    close_period,
    closes,
)
from reconciliation.views.export_pages import export, exports, request_export
from reconciliation.views.finding_pages import (
    customer_findings,
    decide,
    finding,
    findings,
    reconciliation,
    reconciliation_panel,
    run,
    start_run,
)
from reconciliation.views.plan_pages import act, plan, plans, propose

__all__ = [
    "act",
    "certificate",
    "certificate_check",
    "certify",
    "close",
    "close_period",
    "closes",
    "customer_findings",
    "decide",
    "export",
    "exports",
    "finding",
    "findings",
    "plan",
    "plans",
    "propose",
    "reconciliation",
    "reconciliation_panel",
    "request_export",
    "run",
    "start_run",
]
