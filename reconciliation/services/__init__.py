"""Every write of reconciliation: runs, findings, plans, closes, exports."""
