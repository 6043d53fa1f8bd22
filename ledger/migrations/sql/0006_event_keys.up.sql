CREATE TRIGGER eventkey_is_append_only
    BEFORE UPDATE OR DELETE ON ledger_eventkey
    FOR EACH ROW EXECUTE FUNCTION stripemeter_refuse_change();
CREATE TRIGGER eventkey_is_never_truncated
    BEFORE TRUNCATE ON ledger_eventkey
    FOR EACH STATEMENT EXECUTE FUNCTION stripemeter_refuse_change();

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'stripemeter_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON ledger_eventkey FROM stripemeter_app;
    END IF;
END $$;
