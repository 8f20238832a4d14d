#include "kernels/cpu/row_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/stochastic_rounding.h"

namespace hypertower::cpu {
namespace {

constexpr float kBfloat16Max = 0x1.fep127F;

float largest(RowFormat format) {
  if (format == RowFormat::kBfloat16) return kBfloat16Max;
  return format == RowFormat::kFloat16 ? rounding::kFloat16Max : std::numeric_limits<float>::max();
}

void encode_int8(const float* from, int64_t cols, std::byte* to) {
  const auto [min, max] = std::minmax_element(from, from + cols);
  // In double: the difference of two floats may be beyond a float.
  const double range = double{*max} - *min;
  const float scale = range > 0 ? static_cast<float>(range / 255.0) : 1.0F;
  const float bias = *min;
  for (int64_t c = 0; c < cols; ++c) {
    const double code = std::nearbyint((double{from[c]} - bias) / scale);
    to[c] = static_cast<std::byte>(static_cast<uint8_t>(std::clamp(code, 0.0, 255.0)));
  }
  std::fill(to + cols, to + int8_scale_offset(cols), std::byte{0});
  std::memcpy(to + int8_scale_offset(cols), &scale, sizeof scale);
  std::memcpy(to + int8_scale_offset(cols) + sizeof scale, &bias, sizeof bias);
}

}  // namespace

uint16_t nearest_bfloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

uint16_t nearest_float16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000U, magnitude = bits & 0x7fffffffU;
  if (magnitude < 0x38800000U) {  // below 2^-14 in steps of 2^-24
    const float steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24F);
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(steps));
  }
  const uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U);
  return static_cast<uint16_t>(sign | ((rounded - (uint32_t{127 - 15} << 23)) >> 13));
}

float float_of(Bfloat16 x) {
  return std::bit_cast<float>(uint32_t{x.bits} << 16);
}

float float_of(Float16 x) {
  const uint32_t sign = (x.bits & 0x8000U) << 16, magnitude = x.bits & 0x7fffU;
  if (magnitude < 0x400U) {
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24F));
  }
  const uint32_t exponent =
      magnitude >= 0x7c00U ? 255U - 31U : 127U - 15U;  // infinity and NaN stay
  return std::bit_cast<float>(sign | ((magnitude << 13) + (exponent << 23)));
}

int64_t encode_row(const float* from, const Table& to, int64_t r) {
  const float limit = largest(to.format);
  for (int64_t c = 0; c < to.cols; ++c) {
    if (!(std::abs(from[c]) <= limit)) return c;
  }
  std::byte* row = to.row(r);
  auto* const half = reinterpret_cast<uint16_t*>(row);
  switch (to.format) {
    case RowFormat::kFloat32:
      std::memcpy(row, from, static_cast<size_t>(to.cols) * sizeof(float));
      break;
    case RowFormat::kBfloat16:
      std::transform(from, from + to.cols, half, nearest_bfloat16);
      break;
    case RowFormat::kFloat16:
      std::transform(from, from + to.cols, half, nearest_float16);
      break;
    case RowFormat::kInt8:
      encode_int8(from, to.cols, row);
      break;
  }
  return -1;
}

void decode_row(const ConstTable& from, int64_t r, float* to) {
  const std::byte* row = from.row(r);
  const auto* half = reinterpret_cast<const uint16_t*>(row);
  float scale = 1.0F, bias = 0.0F;
  if (from.format == RowFormat::kInt8) {
    std::memcpy(&scale, row + int8_scale_offset(from.cols), sizeof scale);
    std::memcpy(&bias, row + int8_scale_offset(from.cols) + sizeof scale, sizeof bias);
  }
  for (int64_t c = 0; c < from.cols; ++c) {
    switch (from.format) {
      case RowFormat::kFloat32:
        to[c] = reinterpret_cast<const float*>(row)[c];
        break;
      case RowFormat::kBfloat16:
        to[c] = float_of(Bfloat16{half[c]});
        break;
      case RowFormat::kFloat16:
        to[c] = float_of(Float16{half[c]});
        break;
      case RowFormat::kInt8:
        to[c] = std::fma(static_cast<float>(std::to_integer<uint8_t>(row[c])), scale, bias);
        break;
    }
  }
}

}  // namespace hypertower::cpu
