#include "server/event_codec.h"

#include <bit>
#include <cstring>

#include "kernels/error.h"

namespace hypertower {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr size_t kLengthBytes = sizeof(uint32_t);

void put_varint(uint64_t v, std::string& out) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>(v | 0x80);
  out += static_cast<char>(v);
}

void put_text(std::string_view s, std::string& out) {
  put_varint(s.size(), out);
  out += s;
}

template <class T>
void put_plain(T v, std::string& out) {
  char bytes[sizeof v];
  std::memcpy(bytes, &v, sizeof v);
  out.append(bytes, sizeof v);
}

// Variant alternatives are written by index: their order in model/value.h is part of the format.
static_assert(std::variant_size_v<Value> == 6);

void put_value(const Value& value, std::string& out) {
  out += static_cast<char>(value.index());
  if (const auto* i = std::get_if<int64_t>(&value)) put_plain(*i, out);
  if (const auto* d = std::get_if<double>(&value)) put_plain(*d, out);
  if (const auto* s = std::get_if<std::string>(&value)) put_text(*s, out);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    put_varint(texts->size(), out);
    for (const std::string& s : *texts) put_text(s, out);
  }
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    put_varint(numbers->size(), out);
    for (const double d : *numbers) put_plain(d, out);
  }
}

// Reads what put_* wrote and checks every length against what is left.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}

  bool at_end() const { return rest_.empty(); }

  std::string_view take(uint64_t n) {
    if (n > rest_.size()) {
      throw Error(ErrorKind::kIo,
                  "the state holds an event that is cut short; restore the state "
                  "directory from a copy or start with another one");
    }
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }

  template <class T>
  T plain() {
    T v;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return v;
  }

  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      v |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) break;
    }
    return v;
  }

  std::string_view text() { return take(varint()); }

  Value value() {
    switch (take(1)[0]) {
      case 1:
        return plain<int64_t>();
      case 2:
        return plain<double>();
      case 3:
        return std::string(text());
      case 4: {
        std::vector<std::string> texts;
        for (uint64_t n = varint(); n > 0; --n) texts.emplace_back(text());
        return texts;
      }
      case 5: {
        std::vector<double> numbers;
        for (uint64_t n = varint(); n > 0; --n) numbers.push_back(plain<double>());
        return numbers;
      }
      default:
        return {};
    }
  }

 private:
  std::string_view rest_;
};

StoredEvent decode_event(std::string_view record) {
  Cursor in(record);
  StoredEvent event;
  event.id = in.text();
  event.what.item = in.text();
  event.what.kind = in.text();
  if (in.take(1)[0] != 0) event.what.time = in.plain<double>();
  for (uint64_t n = in.varint(); n > 0; --n) {
    std::string name(in.text());
    event.what.context.emplace_back(std::move(name), in.value());
  }
  return event;
}

// Calls visit(record without its length) for each record after the flags byte.
template <class Visit>
uint8_t for_each_record(std::string_view bytes, const Visit& visit) {
  if (bytes.empty()) return 0;
  Cursor in(bytes);
  const auto flags = static_cast<uint8_t>(in.take(1)[0]);
  while (!in.at_end()) visit(in.take(in.plain<uint32_t>()));
  return flags;
}

}  // namespace

void append_event(const Event& event, std::string& out) {
  const size_t start = out.size();
  out.append(kLengthBytes, '\0');
  put_text(event.id, out);
  put_text(event.what.item, out);
  put_text(event.what.kind, out);
  out += event.what.time ? '\1' : '\0';
  if (event.what.time) put_plain(*event.what.time, out);
  put_varint(event.what.context.size(), out);
  for (const auto& [name, value] : event.what.context) {
    put_text(name, out);
    put_value(value, out);
  }
  const auto length = static_cast<uint32_t>(out.size() - start - kLengthBytes);
  std::memcpy(out.data() + start, &length, kLengthBytes);
}

StoredEvents decode_events(std::string_view bytes) {
  StoredEvents stored;
  stored.flags = for_each_record(
      bytes, [&](std::string_view record) { stored.events.push_back(decode_event(record)); });
  return stored;
}

std::vector<std::string> decode_event_ids(std::string_view bytes) {
  std::vector<std::string> ids;
  for_each_record(bytes, [&](std::string_view record) {
    const std::string_view id = Cursor(record).text();
    if (!id.empty()) ids.emplace_back(id);
  });
  return ids;
}

bool concatenate_events(std::string_view older, std::string_view newer, size_t limit,
                        std::string& out) {
  std::vector<std::string_view> records;  // with their lengths
  uint8_t flags = 0;
  try {
    for (const std::string_view bytes : {older, newer}) {
      flags |= for_each_record(bytes, [&](std::string_view record) {
        records.emplace_back(record.data() - kLengthBytes, record.size() + kLengthBytes);
      });
    }
  } catch (const Error&) {
    return false;
  }
  out.assign(1, static_cast<char>(flags));
  const size_t first = records.size() > limit ? records.size() - limit : 0;
  for (size_t i = first; i < records.size(); ++i) out += records[i];
  return true;
}

}  // namespace hypertower
