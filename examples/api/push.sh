#!/bin/sh
# Pushes what Stripe does not know yet, now rather than at the next interval.
set -eu
. "$(dirname "$0")/common.sh"
call POST /v1/pushes/run '{"tenantId": "'"$TENANT"'"}'
