"""The Node client's own tests, run by node's test runner."""

import re

from tests.sdk.node import run


def test_the_node_clients_own_tests_pass(node_package):
    report = run(["node", "--test", "--test-reporter=tap"], node_package)
    passed = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 50
    assert "# fail 0" in report
