"""Operator pages and panels of billing."""
