# Fills the new release with the tree that lies here: a source for Capistrano in place of its git one.
require "capistrano/scm/plugin"

class RsyncFromHere < Capistrano::SCM::Plugin
  def register_hooks
    after "deploy:new_release_path", "rsync:create_release"
  end

  def define_tasks
    namespace :rsync do
      task :create_release do
        on release_roles(:all) do |host|
          execute :mkdir, "-p", release_path
          run_locally do
            execute :rsync, "-a", "--link-dest=#{current_path}/", "-e", "'ssh -F #{ENV.fetch('BENCH_SSH_CONFIG')}'",
                    "#{ENV.fetch('BENCH_TREE')}/", "#{host.hostname}:#{release_path}/"
          end
        end
      end
    end
  end
end
