// The least that proves headers, libraries and kernels: a matrix product.
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

int main() {
  const at::Tensor product = at::matmul(at::ones({2, 3}), at::ones({3, 2}));
  return product.sum().item<double>() == 12.0 ? 0 : 1;
}
