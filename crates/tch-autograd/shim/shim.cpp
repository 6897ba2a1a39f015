// The bridge between torch::autograd::Function and Rust.
//
// Tensors cross as torch::Tensor*, lists of tensors as List*. No exception leaves an `extern "C"`
// function of this file, and no Rust panic enters it: both sides speak in status codes and texts.
#include <ATen/MapAllocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/COW.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/version.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

using at::Tensor;
using torch::autograd::AutogradContext;
using List = torch::autograd::variable_list;

extern "C" {
// What Rust gives for one kind of function. The layout is repeated in src/ffi.rs.
struct tch_autograd_vtable {
  const char *name;  // UTF-8, not terminated
  size_t name_len;
  // 0: outputs, saved and non_differentiable are filled; else Rust has put its error in `failure`.
  int (*forward)(void *function, void *failure, const List *inputs, const uint8_t *needs_grad,
                 List *outputs, List *saved, List *non_differentiable);
  // Null: grad_inputs is filled; else a text to be given to free_text.
  char *(*backward)(void *function, const List *saved, const List *grad_outputs,
                    const uint8_t *needs_grad, List *grad_inputs);
  void (*drop)(void *function);
  void (*free_text)(char *text);
};
}

namespace {

// Thrown when Rust's forward failed; the error itself stays on the Rust side.
struct ForwardFailed {};

// Owns the Rust function; owned in turn by the graph node.
struct Holder : torch::CustomClassHolder {
  Holder(void *function, const tch_autograd_vtable *vtable) : function(function), vtable(vtable) {}
  ~Holder() override { vtable->drop(function); }

  std::string name() const { return std::string(vtable->name, vtable->name_len); }

  void *function;
  const tch_autograd_vtable *vtable;
  // Where the inputs come from; a second differentiation must be seen to lead there.
  torch::autograd::edge_list input_edges;
};

struct Call {
  c10::intrusive_ptr<Holder> holder;
  void *failure;
  std::vector<uint8_t> needs_grad;
};

// Gives gradients made outside the graph a history that fails when it is differentiated. Its edges
// lead on to all that the gradients depend on, or the engine would find no path and skip it.
void forbid_second_derivative(const Holder &holder, const List &grad_outputs, List &grads) {
  auto edges = holder.input_edges;
  for (const auto &grad : grad_outputs)
    if (grad.defined() && grad.requires_grad())
      edges.push_back(torch::autograd::impl::gradient_edge(grad));
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 13
  auto error = c10::make_intrusive<torch::autograd::Error>(
#else
  // Before 2.13 nodes of the graph are held by std::shared_ptr.
  auto error = std::make_shared<torch::autograd::Error>(
#endif
      "the backward of " + holder.name() +
          " is not differentiable: it can be differentiated once only",
      std::move(edges));
  for (auto &grad : grads) {
    if (!grad.defined())
      continue;
    grad = grad.detach();
    torch::autograd::set_history(grad, error);
  }
}

struct RustFunction : torch::autograd::Function<RustFunction> {
  static List forward(AutogradContext *ctx, at::TensorList inputs, Call *call) {
    const List list(inputs.begin(), inputs.end());
    std::vector<uint32_t> versions;
    for (const auto &input : list)
      versions.push_back(input.is_inference() ? 0 : input._version());

    List outputs, saved, non_differentiable;
    const auto &holder = call->holder;
    if (holder->vtable->forward(holder->function, call->failure, &list, call->needs_grad.data(),
                                &outputs, &saved, &non_differentiable) != 0)
      throw ForwardFailed();

    for (size_t i = 0; i < list.size(); ++i)
      if (!list[i].is_inference() && list[i]._version() != versions[i])
        throw std::runtime_error("the forward of " + holder->name() +
                                 " changed input " + std::to_string(i) + " in place");

    ctx->set_materialize_grads(false);
    ctx->save_for_backward(std::move(saved));
    ctx->mark_non_differentiable(non_differentiable);
    ctx->saved_data["function"] = c10::IValue::make_capsule(holder);
    return outputs;
  }

  static List backward(AutogradContext *ctx, const List &grad_outputs) {
    const auto capsule = ctx->saved_data["function"].toCapsule();
    const auto &holder = static_cast<const Holder &>(*capsule);
    const size_t n_inputs = holder.input_edges.size();
    // Throws where a saved tensor was changed in place, or the graph was freed.
    const List saved = ctx->get_saved_variables();
    std::vector<uint8_t> needs_grad;
    for (size_t i = 0; i < n_inputs; ++i)
      needs_grad.push_back(ctx->needs_input_grad(i));

    List grads;
    {
      c10::AutoGradMode no_grad(false);
      if (char *text = holder.vtable->backward(holder.function, &saved, &grad_outputs,
                                               needs_grad.data(), &grads)) {
        const std::string message(text);
        holder.vtable->free_text(text);
        throw std::runtime_error(message);
      }
    }
    if (c10::GradMode::is_enabled())
      forbid_second_derivative(holder, grad_outputs, grads);
    grads.emplace_back();  // for the argument `call`
    return grads;
  }
};

// The memory of a tensor at one moment. Both storages lead to it until one of them is written to,
// which gives that one a copy.
struct Snapshot {
  c10::Storage source;
  c10::intrusive_ptr<c10::StorageImpl> copy;
};

// Allocates the copy that a write to shared memory makes. Up to 2.13 libtorch gives up its share of the
// memory before it allocates, and once more later where that failed, which would free what a snapshot
// shows; so a failure ends the process. Elsewhere the allocator of CPU memory.
struct CopyAllocator final : c10::Allocator {
  at::DataPtr allocate(size_t n) noexcept override { return c10::GetCPUAllocator()->allocate(n); }
  bool is_simple_data_ptr(const at::DataPtr &data) const override {
    return c10::GetCPUAllocator()->is_simple_data_ptr(data);
  }
  at::DeleterFnPtr raw_deleter() const override { return c10::GetCPUAllocator()->raw_deleter(); }
  void copy_data(void *to, const void *from, size_t n) const override { default_copy_data(to, from, n); }
};

// The allocator of storages as long as there are snapshots of them. Never destroyed, as clones of a
// storage have it too.
CopyAllocator &copy_allocator = *new CopyAllocator();

// How many snapshots there are of each storage, and the lock of their making and end. Never
// destroyed, since a thread may outlive the destructors of the process.
std::mutex &snapshots_mutex = *new std::mutex();
auto &snapshots = *new std::unordered_map<c10::StorageImpl *, size_t>();

// libtorch 2.13 leaves a copy-on-write storage that grew with a function to copy memory that it no
// longer shares, which fails at every write. Older ones have no such function.
template <typename Storage>
auto mend(Storage &storage, int) -> decltype(storage.clear_materializer()) {
  storage.clear_materializer();
}
template <typename Storage>
void mend(Storage &, long) {}

// The text of the exception that is being handled, to be given to tch_autograd_free_text.
char *text_of_exception() noexcept {
  try {
    throw;
  } catch (const c10::Error &e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

}  // namespace

extern "C" {

// Applies `function`, of which it takes ownership. 0: outputs are appended; 1: Rust's forward
// failed; 2: torch failed, and *text is to be given to tch_autograd_free_text.
int tch_autograd_apply(void *function, const tch_autograd_vtable *vtable, void *failure,
                       Tensor *const *inputs, size_t n_inputs, List *outputs, char **text) {
  try {
    Call call{c10::make_intrusive<Holder>(function, vtable), failure, {}};
    List list;
    const bool grad_enabled = c10::GradMode::is_enabled();
    for (size_t i = 0; i < n_inputs; ++i) {
      list.push_back(*inputs[i]);
      const bool needs_grad = grad_enabled && inputs[i]->requires_grad();
      call.needs_grad.push_back(needs_grad);
      call.holder->input_edges.push_back(needs_grad
                                             ? torch::autograd::impl::gradient_edge(*inputs[i])
                                             : torch::autograd::Edge());
    }
    *outputs = RustFunction::apply(at::TensorList(list), &call);
    return 0;
  } catch (const ForwardFailed &) {
    return 1;
  } catch (...) {
    *text = text_of_exception();
    return 2;
  }
}

void tch_autograd_free_text(char *text) { free(text); }

List *tch_autograd_list_new() noexcept { return new List(); }
void tch_autograd_list_free(List *list) noexcept { delete list; }
size_t tch_autograd_list_len(const List *list) noexcept { return list->size(); }

// Appends the tensor, or an undefined one for null. The caller keeps its own handle.
void tch_autograd_list_push(List *list, const Tensor *tensor) noexcept {
  list->push_back(tensor == nullptr ? Tensor() : *tensor);
}

// A new handle of the i-th tensor, owned by the caller; null where that one is undefined.
Tensor *tch_autograd_list_get(const List *list, size_t i) noexcept {
  const auto &tensor = (*list)[i];
  return tensor.defined() ? new Tensor(tensor) : nullptr;
}

// Whether the tensor is dense, strided and neither lazily negated nor lazily zero: whether its
// memory says what it holds.
int tch_autograd_is_plain(const Tensor *tensor) noexcept {
  return tensor->defined() && tensor->layout() == at::kStrided && tensor->has_storage() &&
         !tensor->is_neg() && !tensor->is_conj() && !tensor->_is_zerotensor();
}

// Whether no other handle, view or saved variable can reach the tensor's memory. A mapped file can be
// reached through another mapping.
int tch_autograd_is_unique(const Tensor *tensor) noexcept {
  const auto &storage = tensor->storage();
  return tensor->use_count() == 1 && storage.use_count() == 1 &&
         at::MapAllocator::fromDataPtr(storage.data_ptr()) == nullptr;
}

// Whether every element of a plain tensor lies inside its storage.
int tch_autograd_is_inside(const Tensor *tensor) noexcept {
  if (tensor->numel() == 0)
    return 1;
  int64_t last = tensor->storage_offset();
  for (int64_t i = 0; i < tensor->dim(); ++i)
    last += (tensor->size(i) - 1) * tensor->stride(i);
  return (last + 1) * static_cast<int64_t>(tensor->itemsize()) <=
         static_cast<int64_t>(tensor->storage().nbytes());
}

// The elements of a plain tensor, to be read; unlike data_ptr, copies nothing.
const void *tch_autograd_read_ptr(const Tensor *tensor) noexcept {
  return tensor->const_data_ptr();
}

// The elements of a plain tensor, to be written; memory shared by copy-on-write is copied first.
// Autograd sees a change. Where that fails, *text is to be given to tch_autograd_free_text.
void *tch_autograd_write_ptr(const Tensor *tensor, char **text) noexcept {
  try {
    if (!tensor->is_inference())
      tensor->unsafeGetTensorImpl()->bump_version();
    return tensor->mutable_data_ptr();
  } catch (...) {
    *text = text_of_exception();
    return nullptr;
  }
}

// The memory of a plain CPU tensor as it is now, and in *data where its elements are; null where it
// cannot be shared by copy-on-write.
Snapshot *tch_autograd_snapshot_new(const Tensor *tensor, const void **data) noexcept {
  try {
    auto source = tensor->storage();
    auto *storage = source.unsafeGetStorageImpl();
    const std::lock_guard<std::mutex> lock(snapshots_mutex);
    if (storage->allocator() != c10::GetCPUAllocator() && storage->allocator() != &copy_allocator)
      return nullptr;
    auto copy = c10::impl::cow::lazy_clone_storage(*storage);
    if (!copy)
      return nullptr;
    *data = static_cast<const char *>(copy->data()) + tensor->storage_offset() * tensor->itemsize();
    std::unique_ptr<Snapshot> snapshot(new Snapshot{std::move(source), std::move(copy)});
    ++snapshots[storage];
    storage->set_allocator(&copy_allocator);
    return snapshot.release();
  } catch (...) {
    return nullptr;
  }
}

// Gives the tensor its memory back where nothing else shares it.
void tch_autograd_snapshot_free(Snapshot *snapshot) noexcept {
  const std::lock_guard<std::mutex> lock(snapshots_mutex);
  snapshot->copy.reset();
  auto *source = snapshot->source.unsafeGetStorageImpl();
  const auto entry = snapshots.find(source);
  if (--entry->second == 0) {
    snapshots.erase(entry);
    try {
      if (c10::impl::cow::is_cow_data_ptr(source->data_ptr()))
        source->mutable_data();
      else
        mend(*source, 0);
    } catch (...) {
      // It stays copy-on-write.
    }
    source->set_allocator(c10::GetCPUAllocator());
  }
  delete snapshot;
}
}
