"""``python -m tests.support.journal_client URL KEY JOURNAL NUMBER STOP``: a client that remembers.

It writes what it is about to send, and each 200, to a journal that is fsynced before it goes on.
A batch without an answer is sent again with its keys until there is one, also after the file
STOP has appeared: then no new batch begins.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

BATCH, CUSTOMERS = 20, 5


def events_of(number: int, batch: int) -> list[dict[str, Any]]:
    """The events of a client's batch, without their time."""
    return [
        {
            "tenantId": "acme",
            "metric": "api_calls",
            "customerRef": f"c{(batch + place) % CUSTOMERS}",
            "quantity": 1 + (batch + place) % 9,
            "idempotencyKey": f"{number}-{batch}-{place}",
        }
        for place in range(BATCH)
    ]


def _send(url: str, key: str, body: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    while True:
        request = urllib.request.Request(f"{url}/v1/events/ingest", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code not in {429, 503}:
                raise
        except (OSError, HTTPException):
            pass  # no answer, or the half of one
        time.sleep(0.05)


def main() -> None:
    """Send batches until told to stop."""
    url, key, journal, number, stop = sys.argv[1:]
    with Path(journal).open("a", encoding="utf-8") as lines:

        def note(**values: Any) -> None:
            lines.write(json.dumps(values) + "\n")
            lines.flush()
            os.fsync(lines.fileno())

        batch = 0
        while not Path(stop).exists():
            ts = datetime.now(UTC).isoformat()
            note(sent=batch)
            events = [{**event, "ts": ts} for event in events_of(int(number), batch)]
            answer = _send(url, key, json.dumps({"events": events}).encode())
            note(acked=batch, accepted=answer["accepted"], duplicates=answer["duplicates"])
            batch += 1


if __name__ == "__main__":
    main()
