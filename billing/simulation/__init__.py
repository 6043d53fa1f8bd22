"""Scenario files for the invoice simulator: validate, run, compare, report; and what-if pricing."""
