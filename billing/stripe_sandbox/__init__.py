"""A small stateful Stripe for the demo and the tests: own process, own storage.

It knows nothing of StripeMeter: it imports neither Django nor any of our
applications, and keeps its state in its own SQLite file. `docs/sandbox.md`
describes what it serves, how to script faults, and how far it can be trusted.
"""
