"""The only place that speaks to Stripe: drivers, reading back, webhook signatures, mirror.

Typed in, typed out; no caller sees an SDK object or an SDK exception.
"""
