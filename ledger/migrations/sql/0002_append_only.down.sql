DROP TRIGGER event_is_append_only ON ledger_event;
DROP TRIGGER event_is_never_truncated ON ledger_event;
DROP SEQUENCE ledger_batch_seq;
