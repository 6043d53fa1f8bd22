"""StripeMeter: exact usage metering in front of Stripe."""
