"""Fixtures of the billing tests: everything runs over HTTP against the sandbox."""

import pytest

from billing.stripe_sandbox.process import SandboxProcess
from tests.builders.billing import World, make_world


@pytest.fixture
def world(transactional_db: None, sandbox: SandboxProcess) -> World:
    """Two tenants and their Stripe; committed data, real calls."""
    return make_world(sandbox)
