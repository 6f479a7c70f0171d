#!/bin/bash
# The script of somebody who knows ssh and rsync: one connection to each host that everything shares, the tree by rsync
# with hard links to what has not changed, and one command for all the rest. All hosts at once, and none is switched
# before all have the tree.
set -euo pipefail

release=$(date -u +%Y%m%d%H%M%S%N)
read -ra hosts <<< "$BENCH_HOSTS"
ssh="ssh -F $BENCH_SSH_CONFIG -o ControlMaster=auto -o ControlPersist=60 -o ControlPath=$BENCH_SOCKETS/%n"

prepare() {
    live=$($ssh "$1" "set -e; cd $BENCH_TO; mkdir .lock; mkdir releases/$release; readlink current || true")
    rsync -a ${live:+"--link-dest=../../$live"} -e "$ssh" "$BENCH_TREE/" "$1:$BENCH_TO/releases/$release/"
}

publish() {
    $ssh "$1" "set -e; cd $BENCH_TO/releases/$release
        ln -s ../../shared/.env .env
        ln -s ../../shared/media media
        sh bin/after-upload
        cd $BENCH_TO
        ln -s releases/$release current.new
        mv -T current.new current
        sudo -n systemctl restart nginx
        curl -fsS -o /dev/null --retry 20 --retry-connrefused $BENCH_URL
        ls -1d releases/* | head -n -3 | xargs -r rm -rf --
        echo \"\$(date -u +%FT%TZ) $release $USER\" >> deploys.log
        rmdir .lock"
}

# Does it on every host at once; one that fails is a failure of all.
everywhere() {
    local pids=() pid failed=0
    for host in "${hosts[@]}"; do "$1" "$host" & pids+=($!); done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}

leave() { $ssh -O exit "$1" 2>/dev/null; }
unlock() { $ssh "$1" "rmdir $BENCH_TO/.lock"; }

if ! { everywhere prepare && everywhere publish; }; then
    everywhere unlock || true
    everywhere leave || true
    exit 1
fi
everywhere leave
