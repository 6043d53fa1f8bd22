"""Every write of the counters."""
