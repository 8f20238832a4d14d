#include "trainer/autograd_ops.h"

#include "kernels/softmax_loss.h"

#if HYPERTOWER_WITH_CUDA
#include <c10/cuda/CUDAStream.h>
#endif

namespace hypertower {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

MatrixView<float> view(const at::Tensor& t) {
  if (!t.defined()) return {};
  TORCH_INTERNAL_ASSERT(t.is_contiguous() && t.scalar_type() == at::kFloat);
  if (t.dim() == 1) return {t.data_ptr<float>(), t.size(0), 1};
  return {t.data_ptr<float>(), t.size(0), t.size(1)};
}

template <class T>
const T* data_or_null(const at::Tensor& t) {
  if (!t.defined()) return nullptr;
  TORCH_INTERNAL_ASSERT(t.is_contiguous());
  return t.const_data_ptr<T>();
}

Bags raw(const IdBags& bags, const at::Tensor& weights, const std::string& name) {
  Bags out;
  out.ids = data_or_null<int64_t>(bags.ids);
  out.offsets = data_or_null<int64_t>(bags.offsets);
  out.weights = data_or_null<float>(weights);
  out.n = bags.ids.size(0);
  out.bags = bags.bags();
  out.name = name.c_str();
  return out;
}

// What a function keeps between forward and backward besides tensors. Autograd nodes store it as an
// opaque capsule.
template <class T>
struct Kept : torch::CustomClassHolder {
  T value;
  explicit Kept(T v) : value(std::move(v)) {}
};

template <class T>
void keep(AutogradContext* context, T value) {
  context->saved_data["kept"] =
      c10::IValue::make_capsule(c10::make_intrusive<Kept<T>>(std::move(value)));
}

template <class T>
const T& kept(AutogradContext* context) {
  return static_cast<Kept<T>&>(*context->saved_data["kept"].toCapsule()).value;
}

struct LookupCall {
  std::shared_ptr<FusedTable> table;
  IdBags bags;
};

// The table itself requires no gradient, so a scalar `anchor` that does keeps the node in the
// graph.
struct Lookup : Function<Lookup> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& /*anchor*/,
                            const LookupCall& call) {
    const auto& table = *call.table;
    at::Tensor out = at::empty({call.bags.bags(), table.weight.size(1)}, table.weight.options());
    embedding_bag(view(table.weight), raw(call.bags, {}, table.name), Pool::kMean, BadIds::kThrow,
                  view(out), exec_for(out));
    keep(context, call);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto& call = kept<LookupCall>(context);
    auto& table = *call.table;
    const at::Tensor grad = grads[0].contiguous();
    const Exec exec = exec_for(grad);
    const auto plan = call.bags.plan ? call.bags.plan : make_plan(call.bags, table.weight.size(0));
    embedding_backward(view(table.weight), view(table.state0), view(table.state1), *plan,
                       raw(call.bags, {}, table.name), Pool::kMean, view(grad), table.step, exec);
    ++table.step.step;
    return {at::Tensor(), at::Tensor()};
  }
};

struct WeightedPool : Function<WeightedPool> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& matrix,
                            const at::Tensor& weights, const IdBags& bags) {
    const at::Tensor m = matrix.contiguous();
    const at::Tensor w = weights.contiguous();
    at::Tensor out = at::empty({bags.bags(), m.size(1)}, m.options());
    embedding_bag(view(m), raw(bags, w, "history"), Pool::kSum, BadIds::kThrow, view(out),
                  exec_for(out));
    context->save_for_backward({m, w});
    keep(context, bags);
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& matrix = saved[0];
    const at::Tensor& weights = saved[1];
    const auto& bags = kept<IdBags>(context);
    const Bags raw_bags = raw(bags, weights, "history");
    const at::Tensor grad = grads[0].contiguous();
    const Exec exec = exec_for(grad);
    const auto plan = bags.plan ? bags.plan : make_plan(bags, matrix.size(0), weights);
    at::Tensor rows_grad = at::empty({plan->unique_rows(), matrix.size(1)}, matrix.options());
    embedding_row_gradient(*plan, raw_bags, Pool::kSum, view(grad), view(rows_grad), exec);
    at::Tensor matrix_grad = at::zeros_like(matrix);
    const at::Tensor rows = at::from_blob(const_cast<int64_t*>(plan->rows()), {plan->unique_rows()},
                                          bags.ids.options());
    matrix_grad.index_copy_(0, rows, rows_grad);
    at::Tensor weights_grad = at::empty_like(weights);
    embedding_weight_gradient(view(matrix), raw_bags, Pool::kSum, view(grad),
                              weights_grad.data_ptr<float>(), exec);
    return {matrix_grad, weights_grad, at::Tensor()};
  }
};

SoftmaxLossInput raw(const at::Tensor& queries, const at::Tensor& columns,
                     const SoftmaxColumns& what) {
  SoftmaxLossInput in;
  in.queries = view(queries);
  in.columns = view(columns);
  in.target = data_or_null<int64_t>(what.target);
  in.logq = data_or_null<float>(what.logq);
  in.weight = data_or_null<float>(what.row_weight);
  in.column_item = data_or_null<int64_t>(what.column_item);
  in.row_exclude = {data_or_null<int64_t>(what.exclude),
                    data_or_null<int64_t>(what.exclude_offsets), queries.size(0)};
  return in;
}

struct SoftmaxLoss : Function<SoftmaxLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& queries,
                            const at::Tensor& columns, const SoftmaxColumns& what) {
    const at::Tensor q = queries.contiguous();
    const at::Tensor c = columns.contiguous();
    at::Tensor loss = at::empty({q.size(0)}, q.options());
    at::Tensor log_z = at::empty_like(loss);
    softmax_loss_forward(raw(q, c, what), loss.data_ptr<float>(), log_z.data_ptr<float>(),
                         exec_for(q));
    context->save_for_backward({q, c, log_z});
    keep(context, what);
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor d_query = at::empty_like(saved[0]);
    at::Tensor d_column = at::empty_like(saved[1]);
    softmax_loss_backward(raw(saved[0], saved[1], kept<SoftmaxColumns>(context)),
                          saved[2].const_data_ptr<float>(), grad.const_data_ptr<float>(),
                          view(d_query), view(d_column), nullptr, exec_for(grad));
    return {d_query, d_column, at::Tensor()};
  }
};

}  // namespace

Exec exec_for([[maybe_unused]] const at::Tensor& tensor) {
  Exec exec;
  exec.threads = at::get_num_threads();
#if HYPERTOWER_WITH_CUDA
  if (tensor.is_cuda()) {
    exec.device = DeviceType::kCuda;
    exec.stream = c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
  }
#endif
  return exec;
}

FusedTable::FusedTable(std::string parameter_name, at::Tensor table_weight, Optimizer optimizer)
    : weight(std::move(table_weight)), name(std::move(parameter_name)) {
  TORCH_INTERNAL_ASSERT(!weight.requires_grad() && weight.is_contiguous());
  step.kind = optimizer;
  const auto state = [&](int64_t cols) {
    return cols == 0 ? at::Tensor() : at::zeros({weight.size(0), cols}, weight.options());
  };
  state0 = state(state0_cols(optimizer, weight.size(1)));
  state1 = state(state1_cols(optimizer, weight.size(1)));
}

IdBags make_bags(const at::Tensor& ids, const at::Tensor& offsets) {
  return {ids.contiguous(), offsets.contiguous(), nullptr};
}

std::shared_ptr<const EmbeddingPlan> make_plan(const IdBags& bags, int64_t table_rows,
                                               const at::Tensor& weights) {
  return std::make_shared<EmbeddingPlan>(table_rows, raw(bags, weights, "ids"), BadIds::kThrow,
                                         exec_for(bags.ids));
}

at::Tensor lookup(const std::shared_ptr<FusedTable>& table, const IdBags& bags) {
  const at::Tensor anchor =
      at::zeros({}, table->weight.options()).requires_grad_(at::GradMode::is_enabled());
  return Lookup::apply(anchor, LookupCall{table, bags});
}

at::Tensor weighted_pool(const at::Tensor& matrix, const at::Tensor& weights, const IdBags& bags) {
  return WeightedPool::apply(matrix, weights, bags);
}

at::Tensor softmax_loss(const at::Tensor& queries, const at::Tensor& columns,
                        const SoftmaxColumns& what) {
  return SoftmaxLoss::apply(queries, columns, what);
}

}  // namespace hypertower
