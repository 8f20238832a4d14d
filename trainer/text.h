// Sentences from parts: concat("row ", 3, ": ", 0.5) -> "row 3: 0.5".
#pragma once

#include <sstream>
#include <string>

namespace hypertower {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace hypertower
