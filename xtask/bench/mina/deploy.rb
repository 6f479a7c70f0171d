# The job of the benchmark with Mina: the tree by rsync into a folder that stays, then one script on the host.
#
# Debian's package of Mina lacks the template of its `deploy do` block, so what that would do is written out here.
require "mina/deploy"

set :domain, ENV.fetch("BENCH_HOSTS").split.first
set :deploy_to, ENV.fetch("BENCH_TO")
set :shared_paths, [".env", "media"]
set :keep_releases, 3
set :term_mode, nil
set :ssh_options, "-F #{ENV.fetch('BENCH_SSH_CONFIG')}"

task :environment do
  queue! "set -e"
end

task :restart do
  queue! "sudo -n systemctl restart nginx"
  queue! "curl -fsS -o /dev/null --retry 20 --retry-connrefused #{ENV.fetch('BENCH_URL')}"
end

task deploy: :environment do
  tree, config = ENV.fetch("BENCH_TREE"), ENV.fetch("BENCH_SSH_CONFIG")
  system("rsync", "-a", "--delete", "-e", "ssh -F #{config}", "#{tree}/", "#{domain}:#{deploy_to}/tree/") or abort
  release = "#{deploy_to}/releases/#{Time.now.utc.strftime('%Y%m%d%H%M%S%N')}"
  queue! "mkdir #{deploy_to}/.lock"
  queue! "cp -a #{deploy_to}/tree #{release}"
  queue! "cd #{release}"
  invoke :"deploy:link_shared_paths"
  queue! "sh bin/after-upload"
  queue! "ln -s #{release} #{deploy_to}/current.new && mv -T #{deploy_to}/current.new #{deploy_to}/current"
  invoke :restart
  invoke :"deploy:cleanup"
  queue! "echo $(date -u +%FT%TZ) #{release} >> #{deploy_to}/deploys.log && rmdir #{deploy_to}/.lock"
end

# Mina's own rollback, which removes the release it leaves, and what it leaves out.
task rollback: :environment do
  queue! "mkdir #{deploy_to}/.lock"
  invoke :"deploy:rollback"
  invoke :restart
  queue! "rmdir #{deploy_to}/.lock"
end
