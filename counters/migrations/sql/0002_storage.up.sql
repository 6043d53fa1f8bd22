-- Counters are updated in place all day: leave room for heap-only updates.
ALTER TABLE counters_counter SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE counters_dailyrollup SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
