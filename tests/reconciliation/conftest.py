"""Fixtures: everything is read back over HTTP from the sandbox."""

from typing import Any

import pytest

from billing.stripe_sandbox.process import SandboxProcess
from tests.builders.billing import World, make_world


@pytest.fixture
def world(transactional_db: None, sandbox: SandboxProcess, settings: Any) -> World:
    """Two tenants and their Stripe; committed data, real calls."""
    settings.STRIPE_READS_PER_SECOND = 0
    settings.STRIPE_READS_PER_MONTH = 0
    return make_world(sandbox)
