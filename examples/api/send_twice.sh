#!/bin/sh
# Sends the same event twice: the first answer says accepted, the second duplicate, and the
# customer's total grows by 42, not by 84.
set -eu
here=$(dirname "$0")
KEY=twice-$(date +%s)-$$
TS=$(date -u +%Y-%m-%dT%H:%M:%SZ)
export TS
sh "$here/send.sh" "$KEY"
sh "$here/send.sh" "$KEY"
