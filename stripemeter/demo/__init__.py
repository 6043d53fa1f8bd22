"""Demo data: two tenants, six metrics, forty customers, thirty days, made through the API."""
