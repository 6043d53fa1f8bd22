"""What reconciliation found, who decided what, and what finance was given.

Runs and lines are facts of one moment. Findings live from the run that first saw a
difference to the run that no longer does.
"""

from reconciliation.models.closes import PeriodClose
from reconciliation.models.exports import Export, ExportChunk
from reconciliation.models.findings import Finding
from reconciliation.models.repairs import RepairPlan, RepairStep
from reconciliation.models.runs import ReadBudget, ReportLine, Run

__all__ = [
    "Export",
    "ExportChunk",
    "Finding",
    "PeriodClose",
    "ReadBudget",
    "RepairPlan",
    "RepairStep",
    "ReportLine",
    "Run",
]
