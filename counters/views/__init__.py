"""Operator pages and panels of the counters."""
