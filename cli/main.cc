#include "cli/app.h"
#include "engine/base/standard_files.h"
#ifdef SIROCCO_CUDA_BACKEND
#include "engine/backend/cuda/cuda_backend.h"
#endif

int main(int argc, char** argv) {
  sirocco::open_standard_files();
#ifdef SIROCCO_CUDA_BACKEND
  sirocco::register_device_backend(sirocco::cuda_backend());
#endif
  return sirocco::run_app(argc, argv);
}
