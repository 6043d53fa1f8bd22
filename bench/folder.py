"""``python -m bench.folder``: folds until it is told to stop."""

from __future__ import annotations

import sys

import django


def main() -> None:
    """Fold in slots, as the Celery task does."""
    django.setup()
    from counters.services.fold import fold_for
    from stripemeter.lib import clock

    sys.stdout.write("folds\n")
    sys.stdout.flush()
    while True:
        fold_for(10, clock=clock.now)


if __name__ == "__main__":
    main()
