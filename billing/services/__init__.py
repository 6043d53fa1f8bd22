"""Every write of billing: mappings, customer links, accounts, pushes, webhooks."""
