#include "engine/backend/backend.h"

#include <algorithm>

#include "engine/backend/host_backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/ref/kernels.h"

namespace sirocco {
namespace {

const BackendKind* registered_device = nullptr;  // written by main() alone, before there are threads

Result<const BackendKind*> named_backend(std::string_view name) {
  if (name == "auto") return &host_backend();
  for (const BackendKind* kind : {&cpu_backend(), &ref_backend(), device_backend()})
    if (kind != nullptr && kind->name() == name) return kind;
  const std::vector<std::string_view> names = backend_names();
  if (std::find(names.begin(), names.end(), name) != names.end())
    return fail(ErrorCode::unsupported,
                "backend \"{}\" is not in this program: it was built without (SIROCCO_CUDA=ON builds it, where nvcc "
                "is); use backend: auto",
                name);
  return fail(ErrorCode::invalid_argument, "backend \"{}\" does not exist; there are: auto, {}", name,
              fmt::join(names, ", "));
}

}  // namespace

const BackendKind& host_backend() {
  return cpu::kernels().empty() ? ref_backend() : cpu_backend();
}

void register_device_backend(const BackendKind& kind) {
  registered_device = &kind;
}

const BackendKind* device_backend() {
  return registered_device;
}

std::vector<std::string_view> backend_names() {
  return {"cuda", "cpu", "ref"};
}

std::vector<std::string_view> isa_names() {
  std::vector<std::string_view> names;
  for (const Kernels* kernels : cpu::kernels()) names.push_back(kernels->isa);
  return names;
}

Result<const Kernels*> host_kernels(const BackendOptions& options) {
  if (options.backend == "ref" || cpu::kernels().empty()) {
    if (options.isa != "auto")
      return fail(ErrorCode::invalid_argument, "isa \"{}\": the ref backend has none to choose", options.isa);
    return &ref::kernels();
  }
  if (options.isa == "auto") return cpu::kernels().front();
  const Kernels* kernels = cpu::find_kernels(options.isa);
  if (kernels == nullptr)
    return fail(ErrorCode::unsupported, "isa \"{}\" is not one that this machine has; it has: auto, {}", options.isa,
                fmt::join(isa_names(), ", "));
  return kernels;
}

Result<const BackendKind*> choose_backend(const Model& model, const BackendOptions& options,
                                          std::vector<std::string>* passed_over) {
  if (const BackendKind* device = device_backend(); device != nullptr && options.backend == "auto") {
    auto possible = device->available(options);
    if (possible) possible = device->check(model, options);
    if (possible) return device;
    if (passed_over != nullptr && possible.error().code() != ErrorCode::not_found)
      passed_over->push_back(possible.error().at(kNotUsed).message());
  }
  SIROCCO_TRY(const BackendKind* kind, named_backend(options.backend));
  SIROCCO_CHECK(kind->available(options));
  SIROCCO_CHECK(kind->check(model, options));
  return kind;
}

Result<std::unique_ptr<Backend>> make_backend(std::shared_ptr<const Model> model, ExpertSource& experts,
                                              const BackendOptions& options) {
  SIROCCO_TRY(const BackendKind* kind, choose_backend(*model, options));
  return kind->make(std::move(model), experts, options);
}

}  // namespace sirocco
