#!/bin/sh
# Sends one event. Give a key to send the same event again: sh send.sh my-key-1
set -eu
. "$(dirname "$0")/common.sh"
KEY=${1:-example-$(date +%s)-$$}
TS=${TS:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}
call POST /v1/events/ingest '{"events": [{
    "tenantId": "'"$TENANT"'", "metric": "api_calls", "customerRef": "'"$CUSTOMER"'",
    "quantity": 42, "ts": "'"$TS"'", "idempotencyKey": "'"$KEY"'"}]}'
