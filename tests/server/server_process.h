// hypertower-server as a process of its own.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace hypertower {

inline std::string file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class ServerProcess {
 public:
  // Starts `arguments[0]` with stdout and stderr in files under `folder`.
  ServerProcess(std::vector<std::string> arguments, const std::string& folder)
      : stdout_(folder + "/stdout"), stderr_(folder + "/stderr") {
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, 1, stdout_.c_str(), kNew, 0600);
    posix_spawn_file_actions_addopen(&files, 2, stderr_.c_str(), kNew, 0600);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int failed = posix_spawn(&pid_, argv[0], &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (failed != 0) throw std::runtime_error("cannot start " + arguments[0]);
  }
  ~ServerProcess() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  void send_signal(int number) const { ::kill(pid_, number); }
  // Exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  std::string out() const { return file_text(stdout_); }
  std::string err() const { return file_text(stderr_); }

  // The ports in `port_file`, once the server has written it; throws when it ends instead.
  std::vector<uint16_t> ports(const std::string& port_file) {
    for (int i = 0; i < 6000; ++i) {
      if (std::filesystem::exists(port_file)) {
        std::ifstream in(port_file);
        return {std::istream_iterator<uint16_t>(in), {}};
      }
      if (::waitpid(pid_, nullptr, WNOHANG) != 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    throw std::runtime_error("the server did not start: " + err());
  }

 private:
  std::string stdout_, stderr_;
  pid_t pid_ = -1;
};

}  // namespace hypertower
