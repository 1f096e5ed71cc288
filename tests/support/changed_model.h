// A model file with other metadata or without some tensors: what a test needs to see a key honoured or an absence told.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/gguf/gguf_writer.h"
#include "tests/support/source_dir.h"

namespace sirocco::test {

struct ModelChange {
  std::function<void(GgufMetadata&)> metadata = {};
  // May change a tensor's declaration (its bytes become zeros if their number changes); false leaves the tensor out.
  std::function<bool(GgufWriter::TensorDeclaration&)> keep = {};
};

// Writes `model` of tests/golden/model to `output`, changed.
inline std::shared_ptr<const GgufFile> change_model(const std::string& model, const std::filesystem::path& output,
                                                    const ModelChange& change) {
  const auto input = GgufFile::open(golden_dir() / "model" / model).value();
  GgufMetadata metadata = input->metadata();
  if (change.metadata) change.metadata(metadata);
  std::vector<GgufWriter::TensorDeclaration> declarations;
  std::vector<Bytes> data;
  for (const GgufTensor& tensor : input->tensors()) {
    GgufWriter::TensorDeclaration declaration = {
        tensor.name, tensor.type, {tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions}};
    if (change.keep && !change.keep(declaration)) continue;
    declarations.push_back(std::move(declaration));
    data.push_back(input->data(tensor));
  }
  auto writer = GgufWriter::create(output, metadata, std::move(declarations)).value();
  bool written = true;
  for (const Bytes bytes : data) {
    const std::vector<std::byte> zeros(bytes.size() == writer.current_bytes() ? 0 : writer.current_bytes());
    written = writer.append(zeros.empty() ? bytes : Bytes(zeros)) && written;
  }
  EXPECT_TRUE(writer.finish() && written) << output;
  return GgufFile::open(output).value();
}

}  // namespace sirocco::test
