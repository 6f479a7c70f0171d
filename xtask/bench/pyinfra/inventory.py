"""The hosts of the benchmark, for pyinfra."""

import os

hosts = [(host, {"ssh_config_file": os.environ["BENCH_SSH_CONFIG"]}) for host in os.environ["BENCH_HOSTS"].split()]
