"""The embedded runtime: PostgreSQL, Redis and the Stripe sandbox for a laptop and the tests.

It starts and stops processes and writes their addresses down; it knows no app and
needs no Django. Data live in ``.stripemeter/`` beside ``manage.py``.
"""
