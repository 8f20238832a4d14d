#include "model/architecture.h"

#include <string>
#include <vector>

namespace hypertower {
namespace {

constexpr int64_t kMaxWidth = 8192;

Architecture read(const ConfigTree& config, const std::string& prefix) {
  static const std::vector<std::string> kHeads = {"none", "bilinear"};
  Architecture a;
  a.dim = config.integer(prefix + "dim", a.dim, 2, kMaxWidth);
  a.context_dim = config.integer(prefix + "context_dim", a.context_dim, 1, kMaxWidth);
  a.head_hidden = config.integer(prefix + "head_hidden", a.head_hidden, 1, kMaxWidth);
  a.head_rank = config.integer(prefix + "head_rank", a.head_rank, 1, kMaxWidth);
  a.history_pools = config.integer(prefix + "history_pools", a.history_pools, 1, 64);
  a.temperature = config.number(prefix + "temperature", a.temperature, 1e-4, 1e4);
  a.head =
      config.choice(prefix + "head", "bilinear", kHeads) == "none" ? Head::kNone : Head::kBilinear;
  return a;
}

const std::vector<std::string>& keys() {
  static const std::vector<std::string> kKeys = {
      "dim", "context_dim", "head_hidden", "head_rank", "head", "history_pools", "temperature"};
  return kKeys;
}

}  // namespace

Architecture Architecture::from_config(const ConfigTree& config) {
  config.check_keys("model", keys());
  Architecture a = read(config, "model.");
  const auto context = config.root().find("context");
  if (context == config.root().end() || context->empty()) a.head = Head::kNone;
  return a;
}

Architecture Architecture::from_json(const nlohmann::json& j) {
  const ConfigTree tree = ConfigTree::from_json(j, "architecture");
  tree.check_keys("", keys());
  return read(tree, "");
}

nlohmann::json Architecture::to_json() const {
  return {{"dim", dim},
          {"context_dim", context_dim},
          {"head_hidden", head_hidden},
          {"head_rank", head_rank},
          {"history_pools", history_pools},
          {"head", head == Head::kNone ? "none" : "bilinear"},
          {"temperature", temperature}};
}

}  // namespace hypertower
