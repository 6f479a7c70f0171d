# The hosts of the benchmark, for Capistrano.
ENV.fetch("BENCH_HOSTS").split.each { |host| server host, roles: [:all] }
