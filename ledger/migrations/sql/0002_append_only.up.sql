-- Groups the rows of one request and tenant. Carries no order: ids commit out of order.
CREATE SEQUENCE ledger_batch_seq AS bigint CACHE 1;

CREATE TRIGGER event_is_append_only
    BEFORE UPDATE OR DELETE ON ledger_event
    FOR EACH ROW EXECUTE FUNCTION stripemeter_refuse_change();
CREATE TRIGGER event_is_never_truncated
    BEFORE TRUNCATE ON ledger_event
    FOR EACH STATEMENT EXECUTE FUNCTION stripemeter_refuse_change();

-- The outbox is a queue: vacuum it early, or dead rows make every poll dearer.
ALTER TABLE ledger_pendingbatch SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 200,
    autovacuum_analyze_scale_factor = 0.05
);

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'stripemeter_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON ledger_event FROM stripemeter_app;
        GRANT USAGE ON SEQUENCE ledger_batch_seq TO stripemeter_app;
    END IF;
END $$;
