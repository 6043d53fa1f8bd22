#!/bin/sh
# Compares ledger, counters, pushes and Stripe for this month and prints the result per metric.
set -eu
. "$(dirname "$0")/common.sh"
call POST /v1/reconciliation/run '{"tenantId": "'"$TENANT"'"}'
MONTH=$(date -u +%Y-%m)
sleep "${WAIT:-5}"
call GET "/v1/reconciliation/summary?tenantId=$TENANT&periodStart=$MONTH&periodEnd=$MONTH"
