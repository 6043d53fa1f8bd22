"""Asks the OSV database whether a locked dependency has a known vulnerability: `make audit`.

Exit 1 if one has. A database that cannot be reached fails nothing, but is said loudly: an
audit that did not happen must not look like one that found nothing.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
_UNREACHABLE = ("ConnectionError", "NameResolutionError", "ConnectTimeout", "ReadTimeout",
                "ServiceError", "ProxyError", "SSLError")  # fmt: skip
RULE = "!" * 78


def verdict(code: int, said: str, complained: str) -> tuple[int, str]:
    """Exit code and text for what pip-audit answered."""
    try:
        found = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if code != 0 and any(word in complained for word in _UNREACHABLE):
            return 0, (
                f"{RULE}\nNOT AUDITED: the vulnerability database cannot be reached from here.\n"
                "Nothing is known about the locked dependencies; run `make audit` elsewhere."
                f"\n{RULE}"
            )
        return code or 1, complained[-2000:] or "pip-audit said nothing"
    bad = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in found
        for fault in package.get("vulns", [])
    ]
    if bad:
        return 1, "\n".join(bad)
    return 0, f"{len(found)} locked dependencies, none with a known vulnerability"


def main() -> int:
    """Run pip-audit over the lock file."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip",
        "--require-hashes", "--vulnerability-service", "osv", "--format", "json",
        "--progress-spinner", "off", "--timeout", "10",
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603  our own words
        command, capture_output=True, text=True, check=False
    )
    code, text = verdict(done.returncode, done.stdout, done.stderr)
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
