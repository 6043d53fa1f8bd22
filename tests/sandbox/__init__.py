"""Tests of the Stripe sandbox; cases kept outside test modules explain their assertions, too."""

import pytest

pytest.register_assert_rewrite(
    "tests.sandbox.behaviours_metering", "tests.sandbox.behaviours_invoices"
)
