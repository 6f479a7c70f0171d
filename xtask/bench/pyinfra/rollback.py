"""Back to the release before, with pyinfra."""

import os

from pyinfra.operations import server

TO = os.environ["BENCH_TO"]
URL = os.environ["BENCH_URL"]

server.shell(
    name="Roll back",
    commands=[
        f"mkdir {TO}/.lock",
        f"cd {TO} && ln -s $(ls -1d releases/* | grep -B1 -x $(readlink current) | head -n 1) current.new"
        " && mv -T current.new current",
        "sudo -n systemctl restart nginx",
        f"curl -fsS -o /dev/null --retry 20 --retry-connrefused {URL}",
        f"echo $(date -u +%FT%TZ) rollback >> {TO}/deploys.log && rmdir {TO}/.lock",
    ],
)
