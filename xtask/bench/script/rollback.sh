#!/bin/bash
# Back to the release before, with one ssh command to each host, all at once.
set -euo pipefail

read -ra hosts <<< "$BENCH_HOSTS"
pids=()
for host in "${hosts[@]}"; do
    ssh -F "$BENCH_SSH_CONFIG" "$host" "set -e; cd $BENCH_TO
        mkdir .lock
        live=\$(readlink current)
        previous=\$(ls -1d releases/* | grep -B1 -x \"\$live\" | head -n 1)
        test \"\$previous\" != \"\$live\"
        ln -s \"\$previous\" current.new
        mv -T current.new current
        sudo -n systemctl restart nginx
        curl -fsS -o /dev/null --retry 20 --retry-connrefused $BENCH_URL
        echo \"\$(date -u +%FT%TZ) rollback to \$previous $USER\" >> deploys.log
        rmdir .lock" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
