-- The fold asks for the end of a tenant's newest frozen period at every pass.
CREATE INDEX period_frozen_until ON counters_billingperiod (tenant_id, upper(span) DESC)
    WHERE state IN ('frozen', 'sealed');
