"""`migrate` steps back from a table that is in use, and says so when it never gets it."""

from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError, connection

from stripemeter.management.commands.migrate import patiently
from tests.support.cluster import Cluster

pytestmark = pytest.mark.xdist_group("shutdown")


def test_a_lock_that_never_comes_is_given_up_with_advice(
    transactional_db: None, cluster: Cluster
) -> None:
    def read() -> None:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE tenancy_tenant IN ACCESS SHARE MODE")

    from django.db import transaction

    with cluster.connect(cluster.run.database) as other, other.transaction():
        other.execute("LOCK TABLE tenancy_tenant IN ACCESS EXCLUSIVE MODE")
        said: list[str] = []
        with pytest.raises(CommandError, match="pg_stat_activity"):
            patiently(
                transaction.atomic(read), lock_timeout_ms=20, attempts=3, pause_s=0,
                say=said.append,
            )  # fmt: skip
    assert len(said) == 3
    connection.close()


def test_other_errors_are_not_retried(transactional_db: None) -> None:
    calls: list[int] = []

    def fail() -> Any:
        calls.append(1)
        raise OperationalError("disk full")

    with pytest.raises(OperationalError, match="disk full"):
        patiently(fail)
    assert calls == [1]
    connection.close()
