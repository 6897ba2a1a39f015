// What Rust needs to know of a device and to do with it beyond tch: its memory, TF32, and copies
// from pinned memory on a stream of their own.
//
// Written against libtorch's generic devices, streams and events, so that the headers of its CPU
// build are enough. No exception leaves an `extern "C"` function: each returns 0, or 1 with a text
// to be given to tch_autograd_free_text.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <cstring>
#include <exception>

using at::Tensor;

namespace {

c10::Device cuda(int ordinal) {
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(ordinal));
}

template <typename F>
int guarded(char **text, F work) {
  try {
    work();
    return 0;
  } catch (const c10::Error &e) {
    *text = strdup(e.what_without_backtrace());
  } catch (const std::exception &e) {
    *text = strdup(e.what());
  } catch (...) {
    *text = strdup("unknown C++ exception");
  }
  return 1;
}

// Copies into one tensor of the device, on a stream beside that of the computation.
struct Upload {
  explicit Upload(c10::Device device)
      : guard(device.type()),
        device(device),
        stream(guard.getStreamFromGlobalPool(device)),
        used(device.type()),
        copied(device.type()) {}

  // The stream that the calling thread computes on.
  c10::Stream computing() const { return guard.getStream(device); }

  c10::impl::VirtualGuardImpl guard;
  c10::Device device;
  c10::Stream stream;
  // The computation has read the target; the target is filled and the source may be written to.
  c10::Event used, copied;
};

}  // namespace

extern "C" {

// Bytes that are free on a CUDA device, and all that it has; makes its context.
int tch_device_memory(int ordinal, uint64_t *free, uint64_t *total, char **text) {
  return guarded(text, [&] {
    const auto memory =
        c10::getDeviceAllocator(c10::DeviceType::CUDA)->getMemoryInfo(cuda(ordinal).index());
    *free = memory.first;
    *total = memory.second;
  });
}

// Whether products of f32 matrices on CUDA devices round their factors to TF32.
int tch_device_allow_tf32(int allow, char **text) {
  return guarded(text, [&] { at::globalContext().setAllowTF32CuBLAS(allow != 0); });
}

int tch_device_allows_tf32(int *allows, char **text) {
  return guarded(text, [&] { *allows = at::globalContext().allowTF32CuBLAS(); });
}

// A matrix of f32 in memory of the host that a device can read by itself.
int tch_device_pinned(int64_t rows, int64_t columns, Tensor **tensor, char **text) {
  return guarded(text, [&] {
    const auto options = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
    *tensor = new Tensor(at::empty({rows, columns}, options));
  });
}

int tch_device_upload_new(int ordinal, Upload **upload, char **text) {
  return guarded(text, [&] { *upload = new Upload(cuda(ordinal)); });
}

void tch_device_upload_free(Upload *upload) noexcept { delete upload; }

// Queues the copy, after all that read the target before the last release.
int tch_device_upload_start(Upload *upload, const Tensor *from, Tensor *to, char **text) {
  return guarded(text, [&] {
    upload->used.block(upload->stream);
    {
      c10::StreamGuard on_its_stream(upload->stream);
      to->copy_(*from, /*non_blocking=*/true);
    }
    upload->copied.record(upload->stream);
  });
}

// What this thread computes from now on comes after the copy.
int tch_device_upload_join(Upload *upload, char **text) {
  return guarded(text, [&] { upload->copied.block(upload->computing()); });
}

// What this thread has queued by now is all that reads the target.
int tch_device_upload_release(Upload *upload, char **text) {
  return guarded(text, [&] { upload->used.record(upload->computing()); });
}

// Waits until the source has been read.
int tch_device_upload_wait(Upload *upload, char **text) {
  return guarded(text, [&] { upload->copied.synchronize(); });
}
}
