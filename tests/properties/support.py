"""A database test in which each example of a property starts from the same empty tables."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction
from hypothesis import HealthCheck

#: The database fixture is not renewed between examples: `fresh_tables` rolls each one back.
ROLLED_BACK = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@contextmanager
def fresh_tables() -> Iterator[None]:
    """Whatever is written inside is gone afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
