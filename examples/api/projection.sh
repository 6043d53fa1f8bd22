#!/bin/sh
# What the running period costs so far, and what it will.
set -eu
. "$(dirname "$0")/common.sh"
call POST /v1/usage/projection '{"tenantId": "'"$TENANT"'", "customerRef": "'"$CUSTOMER"'"}'
