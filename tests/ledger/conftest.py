import pytest

from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import Caller, make_caller


@pytest.fixture(autouse=True)
def _no_caches() -> None:
    forget_cached_keys()


@pytest.fixture
def acme(db: None) -> Caller:
    return make_caller("acme")


@pytest.fixture
def globex(db: None) -> Caller:
    return make_caller("globex")
