"""What text callers may send: bounds and characters, checked in one place."""

import re

METRIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}", re.ASCII)
TENANT_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
REFERENCE_CHARS_MAX = 255

# C0 and C1 controls, line and paragraph separators, bidirectional overrides, surrogates
# and non-characters: none has a place in an identifier, all of them spoof logs or pages.
FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def reference_problem(value: object) -> str | None:
    """Why ``value`` is no customer reference, resource id or key; None if it is one.

    A reference is 1 to 255 code points without control characters. It is kept exactly as
    sent: never trimmed, folded or normalised, so two spellings are two customers.
    """
    if not isinstance(value, str):
        return "must be text"
    if not 1 <= len(value) <= REFERENCE_CHARS_MAX:
        return f"must have 1 to {REFERENCE_CHARS_MAX} characters"
    if not value.strip():
        return "must not be blank"
    if FORBIDDEN.search(value):
        return "must not contain control, bidirectional or unpaired surrogate characters"
    return None


def metric_problem(value: object) -> str | None:
    """Why ``value`` is no metric name; None if it is one."""
    if isinstance(value, str) and METRIC_NAME.fullmatch(value):
        return None
    return "must be 1 to 100 of A-Z a-z 0-9 _ . : - and start with a letter or digit"
