"""The ``stripemeter`` command: everything an operator does from a shell, by API key."""
