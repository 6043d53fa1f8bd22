DROP TRIGGER audit_entry_is_append_only ON tenancy_auditentry;
DROP TRIGGER audit_entry_is_never_truncated ON tenancy_auditentry;
DROP FUNCTION stripemeter_refuse_change();
