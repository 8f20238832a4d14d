#include "trainer/item_start.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/parallel.h"

namespace hypertower {
namespace {

constexpr int64_t kWindow = 5;
constexpr int64_t kExtraColumns = 16;
constexpr int kPowerRounds = 5;
constexpr double kNoise = 0.1;  // of the scale

// A symmetric sparse matrix by rows.
struct SparseRows {
  std::vector<int64_t> offsets{0};
  std::vector<int64_t> columns;
  std::vector<float> values;
};

// Pairs (item, earlier item) with weight 1 / gap, summed, both ways.
SparseRows cooccurrence(const Dataset& data, const Histories& histories,
                        std::span<const int64_t> events) {
  const auto n = static_cast<size_t>(data.items.size());
  std::vector<std::vector<std::pair<int64_t, float>>> rows(n);
  HistoryRows past;
  for (const int64_t e : events) {
    past = HistoryRows{};
    histories.append(e, past);
    const int64_t item = data.events.item[static_cast<size_t>(e)];
    for (size_t j = 0; j < past.items.size(); ++j) {
      if (past.ages[j] >= kWindow) continue;
      const int64_t other = past.items[j];
      const float weight = 1.0F / static_cast<float>(past.ages[j] + 1);
      rows[static_cast<size_t>(item)].emplace_back(other, weight);
      rows[static_cast<size_t>(other)].emplace_back(item, weight);
    }
  }
  SparseRows out;
  for (auto& row : rows) {
    std::stable_sort(row.begin(), row.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [column, weight] : row) {
      if (static_cast<int64_t>(out.columns.size()) > out.offsets.back() &&
          out.columns.back() == column) {
        out.values.back() += weight;
      } else {
        out.columns.push_back(column);
        out.values.push_back(weight);
      }
    }
    out.offsets.push_back(static_cast<int64_t>(out.columns.size()));
    row = {};
  }
  return out;
}

// max(0, ln(C_ij / (m_i s_j))), m the row sums, s their 3/4 powers normalised; made symmetric.
void to_mutual_information(SparseRows& c) {
  const size_t n = c.offsets.size() - 1;
  std::vector<double> sums(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    for (int64_t k = c.offsets[i]; k < c.offsets[i + 1]; ++k) {
      sums[i] += c.values[static_cast<size_t>(k)];
    }
  }
  double smoothed_total = 0;
  for (const double m : sums) smoothed_total += std::pow(m, 0.75);
  const auto smoothed = [&](size_t i) { return std::pow(sums[i], 0.75) / smoothed_total; };
  for (size_t i = 0; i < n; ++i) {
    for (int64_t k = c.offsets[i]; k < c.offsets[i + 1]; ++k) {
      const auto j = static_cast<size_t>(c.columns[static_cast<size_t>(k)]);
      float& value = c.values[static_cast<size_t>(k)];
      const double one_way = std::max(0.0, std::log(value / (sums[i] * smoothed(j))));
      const double other_way = std::max(0.0, std::log(value / (sums[j] * smoothed(i))));
      value = static_cast<float>((one_way + other_way) / 2);
    }
  }
}

at::Tensor multiply(const SparseRows& m, const at::Tensor& x) {
  constexpr int64_t kGrain = 256;
  const auto n = static_cast<int64_t>(m.offsets.size()) - 1;
  const int64_t width = x.size(1);
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::zeros({n, width}, x.options());
  const float* from = in.const_data_ptr<float>();
  float* to = out.data_ptr<float>();
  parallel_for(at::get_num_threads(), n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = m.offsets[static_cast<size_t>(i)]; k < m.offsets[static_cast<size_t>(i) + 1];
           ++k) {
        const float value = m.values[static_cast<size_t>(k)];
        const float* row = from + m.columns[static_cast<size_t>(k)] * width;
        for (int64_t d = 0; d < width; ++d) to[i * width + d] += value * row[d];
      }
    }
  });
  return out;
}

at::Tensor orthonormal(const at::Tensor& x) {
  return std::get<0>(at::linalg_qr(x));
}

}  // namespace

at::Tensor random_item_start(int64_t items, int64_t dim, double scale, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::empty({items, dim}).normal_(0, scale, generator);
}

at::Tensor log_popularity_start(std::span<const float> counts) {
  at::Tensor out = at::empty({static_cast<int64_t>(counts.size()), 1});
  std::copy(counts.begin(), counts.end(), out.data_ptr<float>());
  const at::Tensor log_counts = at::log1p(out);
  return log_counts - log_counts.mean();
}

at::Tensor svd_item_start(const Dataset& data, const Histories& histories,
                          std::span<const int64_t> events, int64_t dim, double scale,
                          uint64_t seed) {
  const int64_t items = data.items.size();
  const at::Tensor noise = random_item_start(items, dim, scale * kNoise, seed);
  SparseRows m = cooccurrence(data, histories, events);
  if (m.columns.empty()) return random_item_start(items, dim, scale, seed);
  to_mutual_information(m);

  const int64_t width = std::min(dim + kExtraColumns, items);
  at::Tensor basis = orthonormal(random_item_start(items, width, 1.0, seed + 1));
  for (int round = 0; round < kPowerRounds; ++round) basis = orthonormal(multiply(m, basis));
  const auto [values, vectors] = at::linalg_eigh(at::matmul(basis.t(), multiply(m, basis)));
  // Largest eigenvalues last; negative ones have no square root and carry nothing.
  const int64_t rank = std::min(dim, width);
  const at::Tensor kept = values.slice(0, width - rank).clamp_min(0).sqrt();
  at::Tensor x = at::matmul(basis, vectors.slice(1, width - rank)) * kept;
  if (rank < dim) x = at::constant_pad_nd(x, {0, dim - rank});
  x = x * (scale / (x.std().item<double>() + 1e-12));
  const at::Tensor turn = orthonormal(random_item_start(dim, dim, 1.0, seed + 2));
  return at::matmul(x, turn) + noise;
}

}  // namespace hypertower
