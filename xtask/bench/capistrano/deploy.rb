# Settings of the benchmark for Capistrano, which does links, switch, pruning and log by itself.
set :application, "bench"
set :deploy_to, ENV.fetch("BENCH_TO")
set :linked_files, [".env"]
set :linked_dirs, ["media"]
set :keep_releases, 3
set :ssh_options, config: ENV.fetch("BENCH_SSH_CONFIG")
set :format_options, log_file: File::NULL
