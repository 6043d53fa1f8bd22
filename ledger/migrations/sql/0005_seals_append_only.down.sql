DROP TRIGGER seal_is_append_only ON ledger_seal;
DROP TRIGGER seal_is_never_truncated ON ledger_seal;
