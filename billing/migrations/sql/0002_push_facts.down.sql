ALTER TABLE billing_pushslice RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE billing_pushcursor RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE billing_push RESET (fillfactor, autovacuum_vacuum_scale_factor);
DROP TRIGGER push_is_never_deleted ON billing_push;
DROP TRIGGER push_keeps_its_word ON billing_push;
DROP FUNCTION billing_push_keeps_its_word();
