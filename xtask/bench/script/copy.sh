#!/bin/bash
# Only the bytes, without any of the rest of the job.
set -euo pipefail
read -ra hosts <<< "$BENCH_HOSTS"
exec scp -q -F "$BENCH_SSH_CONFIG" "$BENCH_TREE/data/large" "${hosts[0]}:$BENCH_TO/large"
