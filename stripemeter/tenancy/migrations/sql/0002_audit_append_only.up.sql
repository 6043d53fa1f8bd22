-- Facts are only ever added. The trigger also stops the owner of the table.
CREATE FUNCTION stripemeter_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_entry_is_append_only
    BEFORE UPDATE OR DELETE ON tenancy_auditentry
    FOR EACH ROW EXECUTE FUNCTION stripemeter_refuse_change();
CREATE TRIGGER audit_entry_is_never_truncated
    BEFORE TRUNCATE ON tenancy_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION stripemeter_refuse_change();
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'stripemeter_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON tenancy_auditentry FROM stripemeter_app;
    END IF;
END $$;
