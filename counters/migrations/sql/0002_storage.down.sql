ALTER TABLE counters_counter RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE counters_dailyrollup RESET (fillfactor, autovacuum_vacuum_scale_factor);
