"""What is stored and not yet folded is read from the outbox, whoever the customer is."""

import pytest
from django.db import connection

from counters.aggregate_sql import PENDING
from tests.builders.tenancy import make_tenant

#: A ledger as it is after a while: many folded batches, one customer in each of them.
_LEDGER = """
INSERT INTO ledger_event (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id,
                          customer_ref, quantity, source)
SELECT %(tenant)s, 1 + n / 100, now(), now(), gen_random_uuid(), gen_random_uuid(), 1,
       'cus_' || n %% 200, 1, 'http'
FROM generate_series(1, 20000) n
"""
_OF_A_CUSTOMER = f"""
EXPLAIN SELECT count(*) FROM {PENDING}
WHERE p.tenant_id = %(tenant)s AND s.tenant_id = %(tenant)s AND s.metric_id = 1
  AND s.customer_ref = 'cus_7'
"""


@pytest.mark.django_db
def test_the_outbox_leads_to_the_events_not_the_customer_to_the_outbox() -> None:
    tenant, other = make_tenant("acme"), make_tenant("globex")
    with connection.cursor() as cursor:
        for each in (tenant, other):
            cursor.execute(_LEDGER, {"tenant": each.pk})
        cursor.execute("ANALYZE ledger_event")
        cursor.execute(_OF_A_CUSTOMER, {"tenant": tenant.pk})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "event_by_batch" in plan, plan
    assert "event_by_series" not in plan, plan
