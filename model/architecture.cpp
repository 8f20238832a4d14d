#include "model/architecture.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/error.h"

namespace hypertower {
namespace {

constexpr int64_t kMaxWidth = 8192;

// In the order of the enumerators.
const std::vector<std::string> kHistories = {"auto", "pools", "set", "transformer"};

Architecture read(const ConfigTree& config, const std::string& prefix,
                  const std::string& history_if_absent) {
  static const std::vector<std::string> kHeads = {"none", "bilinear"};
  Architecture a;
  a.dim = config.integer(prefix + "dim", a.dim, 2, kMaxWidth);
  a.context_dim = config.integer(prefix + "context_dim", a.context_dim, 1, kMaxWidth);
  a.head_hidden = config.integer(prefix + "head_hidden", a.head_hidden, 1, kMaxWidth);
  a.head_rank = config.integer(prefix + "head_rank", a.head_rank, 1, kMaxWidth);
  a.history_pools = config.integer(prefix + "history_pools", a.history_pools, 1, 64);
  a.history_layers = config.integer(prefix + "history_layers", a.history_layers, 1, 64);
  a.history_heads = config.integer(prefix + "history_heads", a.history_heads, 1, 64);
  const std::string history = config.choice(prefix + "history", history_if_absent, kHistories);
  a.history = static_cast<HistoryEncoder>(std::find(kHistories.begin(), kHistories.end(), history) -
                                          kHistories.begin());
  if (a.history == HistoryEncoder::kTransformer && a.dim % a.history_heads != 0) {
    const std::string path = prefix + "history_heads";
    throw Error(ErrorKind::kSchema,
                config.where(path) + ": " + path + " must divide " + prefix + "dim (" +
                    std::to_string(a.dim) + "), got " + std::to_string(a.history_heads),
                path);
  }
  a.temperature = config.number(prefix + "temperature", a.temperature, 1e-4, 1e4);
  a.head =
      config.choice(prefix + "head", "bilinear", kHeads) == "none" ? Head::kNone : Head::kBilinear;
  return a;
}

const std::vector<std::string>& keys() {
  static const std::vector<std::string> kKeys = {
      "dim",     "context_dim",   "head_hidden",    "head_rank",     "head",
      "history", "history_pools", "history_layers", "history_heads", "temperature"};
  return kKeys;
}

}  // namespace

Architecture Architecture::from_config(const ConfigTree& config) {
  config.check_keys("model", keys());
  Architecture a = read(config, "model.", "auto");
  const auto context = config.root().find("context");
  if (context == config.root().end() || context->empty()) a.head = Head::kNone;
  return a;
}

Architecture Architecture::from_json(const nlohmann::json& j) {
  const ConfigTree tree = ConfigTree::from_json(j, "architecture");
  tree.check_keys("", keys());
  const Architecture a = read(tree, "", "pools");
  if (a.history == HistoryEncoder::kAuto) {
    throw Error(ErrorKind::kSchema,
                "architecture: history must be \"pools\", \"set\" or \"transformer\"", "history");
  }
  return a;
}

nlohmann::json Architecture::to_json() const {
  return {{"dim", dim},
          {"context_dim", context_dim},
          {"head_hidden", head_hidden},
          {"head_rank", head_rank},
          {"history", kHistories[static_cast<size_t>(history)]},
          {"history_pools", history_pools},
          {"history_layers", history_layers},
          {"history_heads", history_heads},
          {"head", head == Head::kNone ? "none" : "bilinear"},
          {"temperature", temperature}};
}

}  // namespace hypertower
