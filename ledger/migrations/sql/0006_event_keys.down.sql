DROP TRIGGER eventkey_is_never_truncated ON ledger_eventkey;
DROP TRIGGER eventkey_is_append_only ON ledger_eventkey;
