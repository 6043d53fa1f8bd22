"""The pricing library stays free of the framework, the network and the clock."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_simulator_loads_neither_django_nor_numeric_libraries() -> None:
    code = (
        "import sys; from stripemeter.pricing import InvoiceSimulator; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'django', 'rest_framework', 'celery', 'stripe', 'numpy', 'pandas', 'psycopg'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
