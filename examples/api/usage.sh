#!/bin/sh
# A customer's totals in the running period, exact at once.
set -eu
. "$(dirname "$0")/common.sh"
call GET "/v1/usage/current?tenantId=$TENANT&customerRef=$CUSTOMER"
