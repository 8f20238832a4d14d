#include "trainer/table.h"

#include <arrow/api.h>
#include <arrow/csv/api.h>
#include <arrow/io/api.h>
#include <arrow/util/compression.h>
#include <glob.h>
#include <parquet/arrow/reader.h>

#include <algorithm>
#include <filesystem>

#include "kernels/error.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

namespace fs = std::filesystem;

bool ends_with(const std::string& text, const std::string& end) {
  return text.ends_with(end);
}

// Which files a path or glob means. The errors say where was looked and how to look elsewhere.
std::vector<std::string> files_of(const DataSource& source, const std::string& role) {
  const std::string& pattern = source.path;
  glob_t found{};
  const int status = glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> files;
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
  globfree(&found);
  if (!files.empty()) return files;  // glob sorts by name
  const fs::path path(pattern);
  const fs::path folder = fs::absolute(path).lexically_normal().parent_path();
  // An absolute path says its folder already.
  const std::string where =
      path.is_absolute() ? "." : concat("; looked in the folder '", folder.string(), "'.");
  const std::string cure = source.cure.empty() ? "" : " " + source.cure;
  if (pattern.find_first_of("*?[") != std::string::npos) {
    throw Error(ErrorKind::kIo,
                concat("No file matches '", pattern, "' (", role, ")", where, cure));
  }
  std::vector<std::string> neighbours;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    neighbours.push_back(entry.path().filename().string());
  }
  std::sort(neighbours.begin(), neighbours.end());
  const std::string near = nearest_name(path.filename().string(), neighbours);
  throw Error(ErrorKind::kIo, concat("File '", pattern, "' (", role, ") does not exist", where,
                                     near.empty() ? "" : " Did you mean '" + near + "'?", cure));
}

// What to do about the complaints of Arrow that people meet most.
std::string cure_of(const std::string& reason) {
  if (reason.find("inflate failed") != std::string::npos) {
    return ". The name says gzip, the content does not: compress it, or drop '.gz' from the name.";
  }
  if (reason.find("CSV parse error") != std::string::npos) {
    return ". Complete the row, or quote a cell that holds the separator.";
  }
  return "";
}

// Unwraps Arrow's Result / Status; the message keeps Arrow's reason behind the file's name.
[[noreturn]] void fail(const std::string& file, const arrow::Status& status) {
  throw Error(status.IsIOError() ? ErrorKind::kIo : ErrorKind::kData,
              concat(file, ": cannot be read: ", status.message(), cure_of(status.message())));
}
void check(const std::string& file, const arrow::Status& status) {
  if (!status.ok()) fail(file, status);
}
template <class T>
T check(const std::string& file, arrow::Result<T> result) {
  if (!result.ok()) fail(file, result.status());
  return std::move(result).ValueUnsafe();
}

std::shared_ptr<arrow::io::InputStream> open_stream(const std::string& file) {
  std::shared_ptr<arrow::io::InputStream> in = check(file, arrow::io::ReadableFile::Open(file));
  if (!ends_with(file, ".gz")) return in;
  auto codec = check(file, arrow::util::Codec::Create(arrow::Compression::GZIP));
  // The stream keeps what it needs of the codec.
  return check(file, arrow::io::CompressedInputStream::Make(codec.get(), in));
}

// The names in the first line. Quoted names may hold the separator, not a line break.
std::vector<std::string> header_of(const std::string& file, char separator) {
  const auto in = open_stream(file);
  std::string text;
  while (text.find('\n') == std::string::npos && text.size() < (1U << 20)) {
    const auto buffer = check(file, in->Read(1 << 16));
    if (buffer->size() == 0) break;
    text += buffer->ToString();
  }
  text = text.substr(0, text.find('\n'));
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (!text.empty() && text.back() == '\r') text.pop_back();
  if (text.empty()) {
    throw Error(ErrorKind::kData,
                concat(file, ": the file is empty; a header line with column names was expected."));
  }
  std::vector<std::string> names(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == separator && !quoted) {
      names.emplace_back();
    } else {
      names.back() += c;
    }
  }
  return names;
}

void check_separator(const std::string& file, const std::vector<std::string>& header,
                     char separator) {
  if (header.size() != 1) return;
  for (const char other : {',', ';', '\t', '|'}) {
    if (other == separator || header[0].find(other) == std::string::npos) continue;
    const std::string shown = other == '\t' ? "\\t" : std::string(1, other);
    throw Error(
        ErrorKind::kData,
        concat(file, ": expected columns separated by '", separator, "', got the single column '",
               header[0], "'; set separator = \"", shown, "\" under [data]."),
        "data.separator");
  }
}

std::vector<std::string> present(std::span<const std::string> wanted,
                                 const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const auto& name : names) {
    if (std::find(wanted.begin(), wanted.end(), name) != wanted.end()) out.push_back(name);
  }
  return out;
}

std::shared_ptr<arrow::Table> read_csv(const std::string& file, char separator,
                                       std::span<const std::string> wanted,
                                       std::vector<std::string>& names) {
  names = header_of(file, separator);
  check_separator(file, names, separator);
  auto read = arrow::csv::ReadOptions::Defaults();
  read.use_threads = false;  // only then errors carry the row
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = separator;
  auto convert = arrow::csv::ConvertOptions::Defaults();
  convert.include_columns = present(wanted, names);
  if (convert.include_columns.empty()) convert.include_columns = {names[0]};
  for (const auto& name : convert.include_columns) convert.column_types[name] = arrow::utf8();
  convert.null_values = {""};
  convert.strings_can_be_null = true;
  auto reader = check(file, arrow::csv::TableReader::Make(arrow::io::default_io_context(),
                                                          open_stream(file), read, parse, convert));
  return check(file, reader->Read());
}

std::shared_ptr<arrow::Table> read_parquet(const std::string& file,
                                           std::span<const std::string> wanted,
                                           std::vector<std::string>& names) {
  const auto in = check(file, arrow::io::ReadableFile::Open(file));
  auto reader = check(file, parquet::arrow::OpenFile(in, arrow::default_memory_pool()));
  std::shared_ptr<arrow::Schema> schema;
  check(file, reader->GetSchema(&schema));
  names = schema->field_names();
  // Leaf columns whose root field is wanted (a list has its values one level down).
  const auto* leaves = reader->parquet_reader()->metadata()->schema();
  std::vector<int> indices;
  for (int i = 0; i < leaves->num_columns(); ++i) {
    const std::string root = leaves->GetColumnRoot(i)->name();
    if (std::find(wanted.begin(), wanted.end(), root) != wanted.end()) indices.push_back(i);
  }
  if (indices.empty()) indices.push_back(0);
  return check(file, reader->ReadTable(indices));
}

}  // namespace

SourceTable SourceTable::read(const DataSource& source, const std::string& role,
                              std::span<const std::string> wanted, char separator) {
  SourceTable out;
  out.role_ = role;
  if (source.table != nullptr) {
    out.name_ = "the " + role + " table";
    out.table_ = source.table;
    out.all_columns_ = source.table->ColumnNames();
    out.segments_.push_back({0, out.name_, false});
  } else {
    const auto files = files_of(source, role);
    std::vector<std::shared_ptr<arrow::Table>> tables;
    int64_t rows = 0;
    for (const auto& file : files) {
      const bool parquet = ends_with(file, ".parquet") || ends_with(file, ".pq");
      if (parquet != !out.text_cells_ && !tables.empty()) {
        throw Error(ErrorKind::kData, concat("'", source.path, "' (", role,
                                             ") matches CSV and Parquet files; use one kind."));
      }
      out.text_cells_ = !parquet;
      tables.push_back(parquet ? read_parquet(file, wanted, out.all_columns_)
                               : read_csv(file, separator, wanted, out.all_columns_));
      out.segments_.push_back({rows, file, !parquet});
      rows += tables.back()->num_rows();
    }
    out.name_ = files.size() == 1 ? files[0] : source.path;
    out.table_ =
        tables.size() == 1 ? tables[0] : check(source.path, arrow::ConcatenateTables(tables));
  }
  if (out.rows() == 0) {
    throw Error(ErrorKind::kData, concat(out.name_, ": has column names but no rows."));
  }
  return out;
}

int64_t SourceTable::rows() const {
  return table_->num_rows();
}

Column SourceTable::column(const std::string& name, const std::string& asked_by) const {
  const auto chunks = table_->GetColumnByName(name);
  if (chunks == nullptr) {
    std::string cure;
    for (const std::string table : {"item", "user"}) {
      if (role_ != "events" || !asked_by.starts_with(table + ".")) continue;
      cure = concat(" If it is in another table, set [data] ", table, "s or pass ", table, "s=.");
    }
    throw Error(ErrorKind::kData,
                concat(name_, ": no column '", name, "', which ", asked_by, " names.",
                       name_hint(name, all_columns_), cure),
                name);
  }
  auto array = chunks->num_chunks() == 1 ? chunks->chunk(0)
                                         : check(name_, arrow::Concatenate(chunks->chunks()));
  return Column(std::move(array), text_cells_);
}

std::string SourceTable::where(int64_t row) const {
  auto next = std::upper_bound(segments_.begin(), segments_.end(), row,
                               [](int64_t r, const Segment& s) { return r < s.first_row; });
  const Segment& segment = *std::prev(next);
  const int64_t inside = row - segment.first_row;
  // Line 1 is the header. (Arrow's default refuses line breaks inside cells.)
  return segment.lines ? concat(segment.file, ":", inside + 2)
                       : concat(segment.file, ", row ", inside);
}

}  // namespace hypertower
