"""The job of the benchmark with Fabric: a connection to each host, all hosts at once, the tree by rsync."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from fabric import Config, Connection, task

HOSTS = os.environ["BENCH_HOSTS"].split()
SSH_CONFIG = os.environ["BENCH_SSH_CONFIG"]
TREE = os.environ["BENCH_TREE"]
TO = os.environ["BENCH_TO"]
URL = os.environ["BENCH_URL"]


def connections():
    config = Config(runtime_ssh_path=SSH_CONFIG)
    return [Connection(host, config=config) for host in HOSTS]


def everywhere(function, connections):
    """Does it on every host at once, and raises the first failure after all have ended."""
    with ThreadPoolExecutor(len(connections)) as pool:
        return list(pool.map(function, connections))


def publish(c, release):
    c.run(f"ln -s {release} {TO}/current.new && mv -T {TO}/current.new {TO}/current")
    c.run("sudo -n systemctl restart nginx")
    c.run(f"curl -fsS -o /dev/null --retry 20 --retry-connrefused {URL}")


@task
def deploy(c):
    release = time.strftime("%Y%m%d%H%M%S", time.gmtime()) + f"{time.time_ns() % 10**9:09d}"
    path = f"{TO}/releases/{release}"

    def prepare(c):
        c.run(f"mkdir {TO}/.lock && mkdir {path}")
        c.local(f"rsync -a --link-dest={TO}/current/ -e 'ssh -F {SSH_CONFIG}' {TREE}/ {c.original_host}:{path}/")
        c.run(f"ln -s ../../shared/.env {path}/.env && ln -s ../../shared/media {path}/media")
        c.run(f"cd {path} && sh bin/after-upload")

    def finish(c):
        publish(c, f"releases/{release}")
        c.run(f"cd {TO} && ls -1d releases/* | head -n -3 | xargs -r rm -rf --")
        c.run(f"echo \"$(date -u +%FT%TZ) {release}\" >> {TO}/deploys.log && rmdir {TO}/.lock")

    hosts = connections()
    everywhere(prepare, hosts)
    everywhere(finish, hosts)


@task
def rollback(c):
    def back(c):
        c.run(f"mkdir {TO}/.lock")
        found = c.run(f"cd {TO} && ls -1d releases/* | grep -B1 -x $(readlink current) | head -n 1", hide=True)
        publish(c, found.stdout.strip())
        c.run(f"echo \"$(date -u +%FT%TZ) rollback\" >> {TO}/deploys.log && rmdir {TO}/.lock")

    everywhere(back, connections())


@task
def run(c):
    everywhere(lambda c: c.run("true"), connections())
