#include <arrow/api.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "trainer/table.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::optional<int64_t> parse_integer(std::string_view s) {
  int64_t x = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), x);
  if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
  const size_t digits = s.size() - (s[0] == '-' ? 1 : 0);
  const bool padded = digits > 1 && s[s.size() - digits] == '0';  // a zip code, not a number
  return padded ? std::nullopt : std::optional(x);
}

// Decimal numbers, "nan" and "inf" included: whoever reads the cell decides what they mean.
std::optional<double> parse_number(std::string_view s) {
  double x = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), x);
  if (end != s.data() + s.size() || error == std::errc::invalid_argument) return std::nullopt;
  return error == std::errc::result_out_of_range ? std::numeric_limits<double>::infinity() : x;
}

std::string_view text_at(const arrow::Array& a, int64_t row) {
  switch (a.type_id()) {
    case arrow::Type::STRING:
    case arrow::Type::BINARY:
      return static_cast<const arrow::BinaryArray&>(a).GetView(row);
    case arrow::Type::LARGE_STRING:
    case arrow::Type::LARGE_BINARY:
      return static_cast<const arrow::LargeBinaryArray&>(a).GetView(row);
    case arrow::Type::STRING_VIEW:
    case arrow::Type::BINARY_VIEW:
      return static_cast<const arrow::BinaryViewArray&>(a).GetView(row);
    default:
      return {};
  }
}

double seconds_per_unit(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND:
      return 1.0;
    case arrow::TimeUnit::MILLI:
      return 1e-3;
    case arrow::TimeUnit::MICRO:
      return 1e-6;
    case arrow::TimeUnit::NANO:
      return 1e-9;
  }
  return 1.0;
}

Value cell_of(const arrow::Array& a, int64_t row);

// A list cell: numbers when its values are numbers, else text; so are integers that a double cannot
// hold exactly. Missing elements are left out.
Value list_of(const arrow::Array& values, int64_t begin, int64_t end) {
  constexpr int64_t kExact = int64_t{1} << 53;
  std::vector<std::string> words;
  std::vector<double> numbers;
  bool numeric = arrow::is_integer(values.type_id()) || arrow::is_floating(values.type_id());
  for (int64_t i = begin; i < end; ++i) {
    const Value v = cell_of(values, i);
    if (is_missing(v)) continue;
    words.push_back(canonical_text(v).value_or(""));
    if (const auto* d = std::get_if<double>(&v)) numbers.push_back(*d);
    if (const auto* n = std::get_if<int64_t>(&v)) {
      numeric = numeric && *n <= kExact && *n >= -kExact;
      numbers.push_back(static_cast<double>(*n));
    }
    if (std::holds_alternative<std::string>(v)) numeric = false;
  }
  if (numeric) return numbers;
  return words;
}

template <class A>
Value signed_at(const arrow::Array& a, int64_t row) {
  return static_cast<int64_t>(static_cast<const A&>(a).Value(row));
}

Value cell_of(const arrow::Array& a, int64_t row) {
  if (a.IsNull(row)) return {};
  switch (a.type_id()) {
    case arrow::Type::NA:
      return {};
    case arrow::Type::BOOL:
      return std::string(static_cast<const arrow::BooleanArray&>(a).Value(row) ? "true" : "false");
    case arrow::Type::INT8:
      return signed_at<arrow::Int8Array>(a, row);
    case arrow::Type::INT16:
      return signed_at<arrow::Int16Array>(a, row);
    case arrow::Type::INT32:
      return signed_at<arrow::Int32Array>(a, row);
    case arrow::Type::INT64:
      return signed_at<arrow::Int64Array>(a, row);
    case arrow::Type::UINT8:
      return signed_at<arrow::UInt8Array>(a, row);
    case arrow::Type::UINT16:
      return signed_at<arrow::UInt16Array>(a, row);
    case arrow::Type::UINT32:
      return signed_at<arrow::UInt32Array>(a, row);
    case arrow::Type::UINT64: {
      const uint64_t x = static_cast<const arrow::UInt64Array&>(a).Value(row);
      if (x <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return static_cast<int64_t>(x);
      }
      return std::to_string(x);
    }
    case arrow::Type::FLOAT:
      return static_cast<double>(static_cast<const arrow::FloatArray&>(a).Value(row));
    case arrow::Type::DOUBLE:
      return static_cast<const arrow::DoubleArray&>(a).Value(row);
    case arrow::Type::TIMESTAMP: {
      const auto unit = static_cast<const arrow::TimestampType&>(*a.type()).unit();
      const auto x = static_cast<const arrow::TimestampArray&>(a).Value(row);
      return static_cast<double>(x) * seconds_per_unit(unit);
    }
    case arrow::Type::DATE32:
      return 86400.0 * static_cast<const arrow::Date32Array&>(a).Value(row);
    case arrow::Type::DATE64:
      return 1e-3 * static_cast<double>(static_cast<const arrow::Date64Array&>(a).Value(row));
    case arrow::Type::DICTIONARY: {
      const auto& d = static_cast<const arrow::DictionaryArray&>(a);
      return cell_of(*d.dictionary(), d.GetValueIndex(row));
    }
    case arrow::Type::LIST: {
      const auto& l = static_cast<const arrow::ListArray&>(a);
      return list_of(*l.values(), l.value_offset(row), l.value_offset(row + 1));
    }
    case arrow::Type::LARGE_LIST: {
      const auto& l = static_cast<const arrow::LargeListArray&>(a);
      return list_of(*l.values(), l.value_offset(row), l.value_offset(row + 1));
    }
    case arrow::Type::FIXED_SIZE_LIST: {
      const auto& l = static_cast<const arrow::FixedSizeListArray&>(a);
      return list_of(*l.values(), l.value_offset(row), l.value_offset(row) + l.value_length(row));
    }
    case arrow::Type::STRING:
    case arrow::Type::BINARY:
    case arrow::Type::LARGE_STRING:
    case arrow::Type::LARGE_BINARY:
    case arrow::Type::STRING_VIEW:
    case arrow::Type::BINARY_VIEW:
      return std::string(text_at(a, row));
    default:
      throw Error(ErrorKind::kData,
                  concat("columns of Arrow type ", a.type()->ToString(),
                         " are not supported; cast it to text, numbers or lists of them."));
  }
}

// Days since 1970 of a proleptic Gregorian date (Howard Hinnant's days_from_civil).
int64_t days_from_civil(int64_t y, int64_t m, int64_t d) {
  y -= m <= 2 ? 1 : 0;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const int64_t yoe = y - era * 400;
  const int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + doe - 719468;
}

// Takes `digits` digits off the front of `s`.
bool take(std::string_view& s, size_t digits, int64_t& out) {
  if (s.size() < digits) return false;
  out = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (s[i] < '0' || s[i] > '9') return false;
    out = out * 10 + (s[i] - '0');
  }
  s.remove_prefix(digits);
  return true;
}
bool take(std::string_view& s, std::string_view any_of) {
  if (s.empty() || any_of.find(s[0]) == std::string_view::npos) return false;
  s.remove_prefix(1);
  return true;
}

std::optional<double> parse_iso(std::string_view s) {
  int64_t year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (!take(s, 4, year) || !take(s, "-/") || !take(s, 2, month) || !take(s, "-/") ||
      !take(s, 2, day) || month < 1 || month > 12 || day < 1 || day > 31) {
    return std::nullopt;
  }
  double fraction = 0;
  int64_t offset = 0;
  if (take(s, "T ")) {
    if (!take(s, 2, hour) || !take(s, ":") || !take(s, 2, minute)) return std::nullopt;
    if (take(s, ":") && !take(s, 2, second)) return std::nullopt;
    if (take(s, ".")) {
      for (double unit = 0.1; !s.empty() && s[0] >= '0' && s[0] <= '9'; unit /= 10) {
        fraction += unit * (s[0] - '0');
        s.remove_prefix(1);
      }
    }
    const bool minus = !s.empty() && s[0] == '-';
    if (!take(s, "Z") && take(s, "+-")) {
      int64_t h = 0, m = 0;
      if (!take(s, 2, h)) return std::nullopt;
      take(s, ":");
      if (!s.empty() && !take(s, 2, m)) return std::nullopt;
      offset = (minus ? -1 : 1) * (h * 3600 + m * 60);
    }
  }
  if (!s.empty() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  return static_cast<double>(days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 +
                             second - offset) +
         fraction;
}

}  // namespace

Column::Column(std::shared_ptr<arrow::Array> array, bool text_cells) : array_(std::move(array)) {
  if (!text_cells) return;
  text_type_ = TextType::kInteger;
  for (int64_t i = 0; i < rows() && text_type_ != TextType::kText; ++i) {
    if (array_->IsNull(i)) continue;
    const std::string_view s = text_at(*array_, i);
    if (text_type_ == TextType::kInteger && !parse_integer(s)) text_type_ = TextType::kNumber;
    const bool zero_padded = parse_number(s) && !parse_integer(s) &&
                             s.find_first_not_of("0123456789") == std::string_view::npos;
    if (text_type_ == TextType::kNumber && (!parse_number(s) || zero_padded)) {
      text_type_ = TextType::kText;
    }
  }
}

int64_t Column::rows() const {
  return array_->length();
}
bool Column::missing(int64_t row) const {
  return array_->IsNull(row);
}

Value Column::raw(int64_t row) const {
  return cell_of(*array_, row);
}

Value Column::cell(int64_t row) const {
  if (text_type_ == TextType::kNotCsv || text_type_ == TextType::kText) return raw(row);
  if (array_->IsNull(row)) return {};
  const std::string_view s = text_at(*array_, row);
  if (text_type_ == TextType::kInteger) return *parse_integer(s);
  return parse_number(s).value_or(kNan);
}

Value Column::number(int64_t row) const {
  Value value = raw(row);
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (const auto x = parse_number(*text)) return *x;
  }
  return value;
}

std::string Column::type_name() const {
  return text_type_ == TextType::kNotCsv ? array_->type()->ToString() : "text";
}

bool Column::declared_text() const {
  if (text_type_ != TextType::kNotCsv) return false;
  const arrow::DataType* type = array_->type().get();
  if (type->id() == arrow::Type::DICTIONARY) {
    type = static_cast<const arrow::DictionaryType&>(*type).value_type().get();
  }
  return arrow::is_base_binary_like(type->id()) || arrow::is_binary_view_like(type->id());
}

std::optional<double> seconds_from(const Value& value) {
  if (const auto* i = std::get_if<int64_t>(&value)) return static_cast<double>(*i);
  if (const auto* d = std::get_if<double>(&value)) {
    return std::isfinite(*d) ? std::optional(*d) : std::nullopt;
  }
  if (const auto* s = std::get_if<std::string>(&value)) {
    // One broken cell makes a text of the whole column; it alone is to blame.
    const auto x = parse_number(*s);
    return x && std::isfinite(*x) ? x : parse_iso(*s);
  }
  return std::nullopt;
}

}  // namespace hypertower
