-- What a push says is a fact from its first commit on: only what became of it may change,
-- and neither the end of one nor the row itself may be taken back.
CREATE FUNCTION billing_push_keeps_its_word() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.tenant_id, NEW.id, NEW.mapping_id, NEW.customer_ref, NEW.period_start, NEW.mode,
        NEW.slice_day, NEW.sequence, NEW.account_id, NEW.semantics, NEW.target,
        NEW.stripe_customer_id, NEW.identifier, NEW.value, NEW.delta, NEW.stamped_at)
       IS DISTINCT FROM
       (OLD.tenant_id, OLD.id, OLD.mapping_id, OLD.customer_ref, OLD.period_start, OLD.mode,
        OLD.slice_day, OLD.sequence, OLD.account_id, OLD.semantics, OLD.target,
        OLD.stripe_customer_id, OLD.identifier, OLD.value, OLD.delta, OLD.stamped_at) THEN
        RAISE EXCEPTION 'push % cannot change what it says', OLD.identifier
            USING ERRCODE = 'restrict_violation';
    END IF;
    -- Acknowledged leaves only by a rejection that Stripe reports later; rejected is final.
    IF OLD.state = 'rejected' OR (OLD.state = 'acknowledged' AND NEW.state <> 'acknowledged'
                                  AND NEW.state <> 'rejected') THEN
        RAISE EXCEPTION 'push % is % and cannot become %', OLD.identifier, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.token < OLD.token THEN
        RAISE EXCEPTION 'fencing token of push % would move back', OLD.identifier
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER push_keeps_its_word
    BEFORE UPDATE ON billing_push
    FOR EACH ROW EXECUTE FUNCTION billing_push_keeps_its_word();
CREATE TRIGGER push_is_never_deleted
    BEFORE DELETE ON billing_push
    FOR EACH ROW EXECUTE FUNCTION stripemeter_refuse_change();

-- Pushes and cursors are updated in place a few times each: leave room for heap-only updates.
ALTER TABLE billing_push SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE billing_pushcursor SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE billing_pushslice SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
