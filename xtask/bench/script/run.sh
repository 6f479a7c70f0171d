#!/bin/bash
# One command on every host: as many ssh processes at once as there are hosts.
set -euo pipefail

read -ra hosts <<< "$BENCH_HOSTS"
pids=()
for host in "${hosts[@]}"; do
    ssh -F "$BENCH_SSH_CONFIG" "$host" true &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
