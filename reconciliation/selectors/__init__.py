"""Every read of reconciliation that spans rows."""
