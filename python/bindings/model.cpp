#include "python/bindings/model.h"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "model/architecture.h"
#include "model/config_tree.h"
#include "model/event_check.h"
#include "model/json.h"
#include "model/model_directory.h"
#include "model/recommender.h"
#include "model/schema.h"
#include "python/bindings/convert.h"
#include "trainer/config.h"

namespace hypertower::bindings {
namespace {

using RecommenderPtr = std::shared_ptr<Recommender>;

Exec on_cpu(int threads) {
  return {DeviceType::kCpu, threads, nullptr};
}

// Rows [n, k] (-1 = no more), scores [n, k] (-inf), eligible [n].
py::tuple to_arrays(const std::vector<Answer>& answers, int64_t k) {
  const auto n = static_cast<int64_t>(answers.size());
  py::array_t<int64_t> rows({n, k});
  py::array_t<float> scores({n, k});
  py::array_t<int64_t> eligible(n);
  auto row = rows.mutable_unchecked<2>();
  auto score = scores.mutable_unchecked<2>();
  for (int64_t r = 0; r < n; ++r) {
    const auto& hits = answers[static_cast<size_t>(r)].hits;
    for (int64_t i = 0; i < k; ++i) {
      const bool present = i < static_cast<int64_t>(hits.size());
      row(r, i) = present ? hits[static_cast<size_t>(i)].row : -1;
      score(r, i) =
          present ? hits[static_cast<size_t>(i)].score : -std::numeric_limits<float>::infinity();
    }
    eligible.mutable_at(r) = answers[static_cast<size_t>(r)].eligible;
  }
  return py::make_tuple(rows, scores, eligible);
}

void bind_config(py::module_& m) {
  py::class_<ConfigTree>(m, "Config")
      .def_static("from_file", &ConfigTree::from_toml_file, py::arg("path"))
      .def_static(
          "from_dict",
          [](const py::dict& tree, const std::string& name) {
            return ConfigTree::from_json(to_json(tree, ""), name);
          },
          py::arg("tree"), py::arg("name"))
      .def(
          "set",
          [](ConfigTree& self, const std::string& path, const py::object& value) {
            self.set(path, to_json(value, path));
          },
          py::arg("path"), py::arg("value"))
      .def(
          "set_text",
          [](ConfigTree& self, const std::string& path, const std::string& text) {
            self.set(path, text);
          },
          py::arg("path"), py::arg("text"))
      .def_property_readonly("name", &ConfigTree::name)
      .def("to_dict", [](const ConfigTree& self) { return from_json(self.root()); });
  m.def(
      "check_schema",
      [](const ConfigTree& config) { return from_json(Schema::from_config(config).to_json()); },
      py::arg("config"));
  // Everything that training reads from a config before it reads data.
  m.def(
      "check_config",
      [](const ConfigTree& config) {
        TrainerConfig::from_config(config);
        Schema::from_config(config);
        Architecture::from_config(config);
      },
      py::arg("config"));
}

void bind_people(py::module_& m) {
  py::class_<PeopleInMemory, std::shared_ptr<PeopleInMemory>>(m, "People")
      .def(py::init([] { return std::make_shared<PeopleInMemory>(std::vector<Person>{}); }))
      .def(
          "observe",
          [](PeopleInMemory& self, const py::object& events, const Recommender& model) {
            const std::vector<Event> parsed = to_events(events);
            py::gil_scoped_release release;
            for (size_t i = 0; i < parsed.size(); ++i) {
              check_event(model.encoder().features(), parsed[i].what,
                          "events[" + std::to_string(i) + "]");
            }
            return self.observe(parsed);
          },
          py::arg("events"), py::arg("model"), "Takes all of the events, or none on an error.")
      .def(
          "find",
          [](const PeopleInMemory& self, const std::string& user) -> py::object {
            const std::optional<Person> person = self.find(user);
            if (!person) return py::none();
            nlohmann::json history = nlohmann::json::array();
            for (const HistoryEvent& e : person->history) {
              history.push_back(history_event_to_json(e));
            }
            nlohmann::json features = nlohmann::json::object();
            for (const auto& [name, value] : person->features)
              features[name] = value_to_json(value);
            return from_json({{"user", user}, {"features", features}, {"history", history}});
          },
          py::arg("user"));
}

RecommenderPtr make_recommender(ModelData model) {
  py::gil_scoped_release release;
  return std::make_shared<Recommender>(std::move(model));
}

void save(const Recommender& self, const std::string& path, const PeopleInMemory* people) {
  py::gil_scoped_release release;
  ModelData model = self.to_model_data();
  model.people = people == nullptr ? std::vector<Person>{} : people->snapshot();
  write_model_directory(model, path);
}

py::dict facts(const Recommender& self) {
  const ModelData& d = self.data();
  py::dict out;
  out["schema"] = from_json(self.schema().to_json());
  out["architecture"] = from_json(self.encoder().architecture().to_json());
  out["metrics"] = from_json(d.metrics);
  out["training"] = from_json(d.training);
  out["items"] = self.index().size();
  out["dim"] = self.encoder().dim();
  out["item_ids_are_integers"] = d.item_ids_are_integers;
  out["user_ids_are_integers"] = d.user_ids_are_integers;
  out["exclude_seen_by_default"] = d.exclude_seen_by_default;
  return out;
}

void bind_recommender(py::module_& m) {
  // Opaque: made by _trainer, taken by Recommender.
  py::class_<ModelData, std::shared_ptr<ModelData>>(m, "ModelData");

  py::class_<Recommender, RecommenderPtr>(m, "Recommender")
      .def(py::init([](const std::shared_ptr<ModelData>& model) {
             return make_recommender(std::move(*model));
           }),
           py::arg("model"), "Takes the contents of `model`, which is empty afterwards.")
      .def_static(
          "load",
          [](const std::string& path) { return make_recommender(read_model_directory(path)); },
          py::arg("path"))
      .def("save", &save, py::arg("path"), py::arg("people"))
      .def("facts", &facts)
      .def("people",
           [](const Recommender& self) {
             return std::make_shared<PeopleInMemory>(self.data().people);
           })
      .def("item_ids", [](const Recommender& self) { return self.index().catalogue().ids; })
      .def(
          "recommend",
          [](const Recommender& self, const py::object& requests, int64_t k,
             std::optional<bool> exclude_seen, const py::object& where,
             const PeopleInMemory* people, int threads) {
            const std::vector<Request> parsed = to_requests(requests);
            const RecommendOptions options{
                .k = k, .exclude_seen = exclude_seen, .where = to_filter(where)};
            std::vector<Answer> answers;
            {
              py::gil_scoped_release release;
              answers = self.recommend(parsed, options, people, on_cpu(threads));
            }
            return to_arrays(answers, k);
          },
          py::arg("requests"), py::arg("k"), py::arg("exclude_seen"), py::arg("where"),
          py::arg("people"), py::arg("threads"))
      .def(
          "encode_query",
          [](const Recommender& self, const py::object& requests, const PeopleInMemory* people,
             int threads) {
            const std::vector<Request> parsed = to_requests(requests);
            std::vector<float> out;
            {
              py::gil_scoped_release release;
              out = self.encode_query(parsed, people, on_cpu(threads));
            }
            return to_matrix(out, static_cast<int64_t>(parsed.size()), self.encoder().dim());
          },
          py::arg("requests"), py::arg("people"), py::arg("threads"))
      .def(
          "encode_items",
          [](const Recommender& self, const std::vector<std::string>& ids, const py::list& features,
             int threads) {
            std::vector<Record> records;
            for (py::handle item : features) {
              const std::string path = "items[" + std::to_string(records.size()) + "]";
              Record record;
              const nlohmann::json fields = to_json(item, path);
              for (const auto& [name, value] : fields.items()) {
                record.emplace_back(name, value_from_json(value, path + "." + name));
              }
              records.push_back(std::move(record));
            }
            std::vector<float> out;
            {
              py::gil_scoped_release release;
              out = self.encode_items(ids, records, on_cpu(threads));
            }
            return to_matrix(out, static_cast<int64_t>(ids.size()), self.encoder().dim());
          },
          py::arg("ids"), py::arg("features"), py::arg("threads"))
      .def(
          "similar",
          [](const Recommender& self, const std::vector<std::string>& items, int64_t k,
             const py::object& where, int threads) {
            const std::optional<Filter> filter = to_filter(where);
            std::vector<Answer> answers;
            {
              py::gil_scoped_release release;
              answers = self.similar(items, k, filter, on_cpu(threads));
            }
            return to_arrays(answers, k);
          },
          py::arg("items"), py::arg("k"), py::arg("where"), py::arg("threads"))
      .def(
          "score",
          [](const Recommender& self, const py::object& requests,
             const std::vector<std::vector<std::string>>& items, const PeopleInMemory* people,
             int threads) {
            const std::vector<Request> parsed = to_requests(requests);
            std::vector<float> out;
            {
              py::gil_scoped_release release;
              out = self.score(parsed, items, people, on_cpu(threads));
            }
            return to_matrix(out, static_cast<int64_t>(items.size()),
                             items.empty() ? 0 : static_cast<int64_t>(items.front().size()));
          },
          py::arg("requests"), py::arg("items"), py::arg("people"), py::arg("threads"));

  m.def(
      "inspect", [](const std::string& path) { return from_json(inspect_model_directory(path)); },
      py::arg("path"));
}

}  // namespace

void bind_model(py::module_& m) {
  bind_config(m);
  bind_people(m);
  bind_recommender(m);
}

}  // namespace hypertower::bindings
