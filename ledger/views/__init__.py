"""Operator pages of the ledger: events, long operations, backfill."""
