#!/bin/sh
# The last seven days of a metric, one value a day.
set -eu
. "$(dirname "$0")/common.sh"
call GET "/v1/usage/history?tenantId=$TENANT&customerRef=$CUSTOMER&metric=api_calls&since=-P7D&interval=day"
