// Included by every test of the CUDA backend: registers it, as main() does.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/backend/cuda/cuda_backend.h"

namespace sirocco::test {

inline const bool kCudaRegistered = [] {
  register_device_backend(cuda_backend());
  return true;
}();

}  // namespace sirocco::test
