// NVIDIA's own matrix products, to be measured against: loaded at run time, so that a program without the library (or
// compiled without its headers) still runs. Nothing of Sirocco computes with it; docs/decisions.md says why.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define SIROCCO_CUBLAS_HEADERS 1
#endif

namespace sirocco {

#ifdef SIROCCO_CUBLAS_HEADERS

class CublasLt {
 public:
  CublasLt() {
    void* const library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);  // stays until the program ends
    if (library == nullptr) return;
    const bool complete = find(library, "cublasLtCreate", create_) && find(library, "cublasLtMatmul", matmul_) &&
                          find(library, "cublasLtMatmulDescCreate", describe_) &&
                          find(library, "cublasLtMatmulDescSetAttribute", set_) &&
                          find(library, "cublasLtMatrixLayoutCreate", lay_out_) &&
                          find(library, "cublasLtMatmulPreferenceCreate", prefer_) &&
                          find(library, "cublasLtMatmulPreferenceSetAttribute", set_preference_) &&
                          find(library, "cublasLtMatmulAlgoGetHeuristic", choose_);
    if (!complete || create_(&handle_) != CUBLAS_STATUS_SUCCESS) handle_ = nullptr;
    if (handle_ != nullptr && cudaMalloc(&workspace_, kWorkspace) != cudaSuccess) handle_ = nullptr;
  }
  bool there() const { return handle_ != nullptr; }

  // y[rows, outputs] = x[rows, inputs] w[outputs, inputs]^T: int8 with int32 sums, or f16 with f32 sums to f16.
  struct Product {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t w = nullptr;
    cublasLtMatrixLayout_t x = nullptr;
    cublasLtMatrixLayout_t y = nullptr;
    cublasLtMatmulHeuristicResult_t best = {};
    bool int8 = false;
  };
  // False: it has no such product.
  bool prepare(bool int8, std::uint64_t rows, std::uint64_t inputs, std::uint64_t outputs, Product& p) const {
    const cudaDataType_t in = int8 ? CUDA_R_8I : CUDA_R_16F;
    const cudaDataType_t out = int8 ? CUDA_R_32I : CUDA_R_16F;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtMatmulPreference_t preference = nullptr;
    int found = 0;
    p.int8 = int8;
    // It counts columns first: w is [inputs, outputs] there, and transposed.
    return describe_(&p.operation, int8 ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F, int8 ? CUDA_R_32I : CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           set_(p.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed) == CUBLAS_STATUS_SUCCESS &&
           lay_out_(&p.w, in, inputs, outputs, static_cast<std::int64_t>(inputs)) == CUBLAS_STATUS_SUCCESS &&
           lay_out_(&p.x, in, inputs, rows, static_cast<std::int64_t>(inputs)) == CUBLAS_STATUS_SUCCESS &&
           lay_out_(&p.y, out, outputs, rows, static_cast<std::int64_t>(outputs)) == CUBLAS_STATUS_SUCCESS &&
           prefer_(&preference) == CUBLAS_STATUS_SUCCESS &&
           set_preference_(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace) ==
               CUBLAS_STATUS_SUCCESS &&
           choose_(handle_, p.operation, p.w, p.x, p.y, p.y, preference, 1, &p.best, &found) == CUBLAS_STATUS_SUCCESS &&
           found == 1;
  }
  cudaError_t multiply(const Product& p, const void* w, const void* x, void* y, cudaStream_t stream) const {
    const std::int32_t int_one = 1;
    const std::int32_t int_zero = 0;
    const float one = 1;
    const float zero = 0;
    const void* const alpha = p.int8 ? static_cast<const void*>(&int_one) : &one;
    const void* const beta = p.int8 ? static_cast<const void*>(&int_zero) : &zero;
    const cublasStatus_t status = matmul_(handle_, p.operation, alpha, w, p.w, x, p.x, beta, y, p.y, y, p.y,
                                          &p.best.algo, workspace_, kWorkspace, stream);
    return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
  }

 private:
  static constexpr std::size_t kWorkspace = std::size_t{32} << 20;

  template <class Function>
  static bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
  }

  decltype(&cublasLtCreate) create_ = nullptr;
  decltype(&cublasLtMatmul) matmul_ = nullptr;
  decltype(&cublasLtMatmulDescCreate) describe_ = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_ = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) lay_out_ = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) prefer_ = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference_ = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
};

#else

class CublasLt {
 public:
  struct Product {};
  bool there() const { return false; }
  bool prepare(bool, std::uint64_t, std::uint64_t, std::uint64_t, Product&) const { return false; }
  cudaError_t multiply(const Product&, const void*, const void*, void*, cudaStream_t) const {
    return cudaErrorNotSupported;
  }
};

#endif

}  // namespace sirocco
