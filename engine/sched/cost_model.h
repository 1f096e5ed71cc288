// What a step is expected to take: a fixed part, and a part for each row. Learnt from the steps that were taken, so
// that it follows the machine, the model and what lies in memory. A plain value; owned by the engine thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace sirocco {

struct CostModel {
  double step = 0.02;        // seconds of a step, whatever its rows
  double decode_row = 0.01;  // seconds of each
  double prompt_row = 0.002;

  double seconds(double decode_rows, double prompt_rows) const {
    return step + decode_row * decode_rows + prompt_row * prompt_rows;
  }

  // Prompt rows that fit beside that many decode rows.
  double prompt_rows_within(double bound, double decode_rows) const {
    return std::floor(std::max(0.0, bound - seconds(decode_rows, 0)) / std::max(prompt_row, 1e-9));
  }

  // Normalised least mean squares with coefficients kept in [0, kMost]. One step counts for a fifth at most, and no
  // more than if it had taken four times what was expected: a stall of the disk is not a new machine.
  void observe(std::uint32_t decode_rows, std::uint32_t prompt_rows, double measured) {
    if (!std::isfinite(measured) || measured < 0 || decode_rows + prompt_rows == 0) return;
    const double expected = seconds(decode_rows, prompt_rows);
    const double error = std::min(measured, 4 * expected + 1e-4) - expected;
    // Typical numbers of rows bring the three to one scale.
    const double d = decode_rows / kDecodeScale;
    const double p = prompt_rows / kPromptScale;
    const double gain = 0.2 * error / (1 + d * d + p * p);
    step = bounded(step + gain);
    decode_row = bounded(decode_row + gain * d / kDecodeScale);
    prompt_row = bounded(prompt_row + gain * p / kPromptScale);
  }

 private:
  static constexpr double kDecodeScale = 4;
  static constexpr double kPromptScale = 64;
  static constexpr double kMost = 600;  // seconds

  static double bounded(double value) { return std::clamp(value, 0.0, kMost); }
};

}  // namespace sirocco
