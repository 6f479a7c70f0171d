# What the job of the benchmark has beyond Capistrano's own flow: a lock, a command, a restart, a question over HTTP.
namespace :bench do
  task(:lock) { on(roles(:all)) { execute :mkdir, deploy_path.join(".lock") } }
  task(:unlock) { on(roles(:all)) { execute :rmdir, deploy_path.join(".lock") } }
  task(:command) { on(roles(:all)) { within(release_path) { execute :sh, "bin/after-upload" } } }
  task :restart do
    on roles(:all) do
      execute :sudo, "-n systemctl restart nginx"
      execute :curl, "-fsS -o /dev/null --retry 20 --retry-connrefused #{ENV.fetch('BENCH_URL')}"
    end
  end
  task(:run) { on(roles(:all)) { execute :true } }
end
before "deploy:starting", "bench:lock"
after "deploy:updated", "bench:command"
after "deploy:published", "bench:restart"
after "deploy:finished", "bench:unlock"
