"""A client generated from the description by an off-the-shelf generator talks to the server."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stripemeter import apidocs
from tests.contract.conftest import Live

pytestmark = pytest.mark.xdist_group("contract")
PACKAGE = "generated_stripemeter_client"
UNKNOWN_TO_THE_GENERATOR = (
    ("/v1/events/ingest", "application/cloudevents-batch+json"),
    ("/v1/events/backfill", "text/csv"),
    ("/v1/events/backfill", "application/x-ndjson"),
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The generated package, imported."""
    folder: Path = tmp_path_factory.mktemp("generated")
    document = json.loads(apidocs.description())
    # The generator knows neither bare lists beside objects nor text as bodies.
    for path, media in UNKNOWN_TO_THE_GENERATOR:
        del document["paths"][path]["post"]["requestBody"]["content"][media]
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yml").write_text("post_hooks: []\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "openapi_python_client", "generate",
            "--path", str(folder / "openapi.json"), "--config", str(folder / "config.yml"),
            "--output-path", str(folder / PACKAGE), "--meta", "none", "--fail-on-warning",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sys.path.insert(0, str(folder))

    def module(name: str) -> Any:
        return importlib.import_module(f"{PACKAGE}.{name}")

    yield SimpleNamespace(
        client=module("client"),
        ingest=module("api.events.ingest_events"),
        events=module("api.events.list_events"),
        usage=module("api.usage.get_current_usage"),
        models=module("models"),
    )
    sys.path.remove(str(folder))


def test_events_sent_by_the_generated_client_are_counted(
    live: Live, generated: SimpleNamespace
) -> None:
    client = generated.client.AuthenticatedClient(
        base_url=live.url, token=live.caller.plaintext, raise_on_unexpected_status=True
    )
    event = generated.models.UsageEvent(
        tenant_id="acme", metric="generated_calls", customer_ref="g1", quantity=2.5,
        ts=datetime.now(UTC), idempotency_key="generated-1",
    )  # fmt: skip
    batch = generated.models.UsageEventBatch(events=[event])
    first = generated.ingest.sync(client=client, body=batch)
    again = generated.ingest.sync(client=client, body=batch)
    assert (first.accepted, again.duplicates) == (1, 1)

    usage = generated.usage.sync(client=client, tenant_id="acme", customer_ref="g1")
    assert [(one.name, one.current) for one in usage.metrics] == [("generated_calls", 2.5)]
    listed = generated.events.sync(client=client, tenant_id="acme", customer_ref="g1")
    assert [one.id for one in listed.events] == ["generated-1"]

    refused = generated.usage.sync(client=client, tenant_id="globex", customer_ref="g1")
    assert (refused.status, refused.code) == (403, "tenant_mismatch")
