"""The job of the benchmark with pyinfra: each operation on all hosts at once, the tree by its rsync operation."""

import os
import time

from pyinfra.operations import files, server

TREE = os.environ["BENCH_TREE"]
TO = os.environ["BENCH_TO"]
URL = os.environ["BENCH_URL"]
RELEASE = os.environ.setdefault("BENCH_RELEASE", time.strftime("%Y%m%d%H%M%S") + f"{time.time_ns() % 10**9:09d}")
path = f"{TO}/releases/{RELEASE}"

server.shell(name="Lock", commands=[f"mkdir {TO}/.lock && mkdir {path}"])
files.rsync(name="Upload", src=f"{TREE}/", dest=f"{path}/", flags=["-a", f"--link-dest={TO}/current/"])
server.shell(
    name="Prepare",
    commands=[
        f"ln -s ../../shared/.env {path}/.env && ln -s ../../shared/media {path}/media",
        f"cd {path} && sh bin/after-upload",
    ],
)
server.shell(
    name="Publish",
    commands=[
        f"ln -s releases/{RELEASE} {TO}/current.new && mv -T {TO}/current.new {TO}/current",
        "sudo -n systemctl restart nginx",
        f"curl -fsS -o /dev/null --retry 20 --retry-connrefused {URL}",
    ],
)
server.shell(
    name="Finish",
    commands=[
        f"cd {TO} && ls -1d releases/* | head -n -3 | xargs -r rm -rf --",
        f"echo $(date -u +%FT%TZ) {RELEASE} >> {TO}/deploys.log && rmdir {TO}/.lock",
    ],
)
