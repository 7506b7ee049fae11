// Grids of the published presets with the figures that any implementation of the method must reproduce.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include "csrc/core/curve.h"

namespace jenga::core {

// CRC-32 (zlib polynomial) of curve_order as little-endian int32; adjacent pairs at 128 tokens a block, diagonal
// included.
struct ConformanceRow {
  TokenGrid grid;
  CurveKind kind;
  uint32_t crc;
  int64_t adjacent_pairs;
  std::vector<int32_t> first;
  int32_t last;
};

inline const std::vector<ConformanceRow> kConformance = {
    {{32, 45, 80}, CurveKind::kGilbert3d, 0x25618db9, 16834, {0, 80, 3680, 3600, 3601, 3681, 81, 1}, 79},
    {{32, 22, 40}, CurveKind::kGilbert3d, 0x85f444a9, 3702, {0, 40, 920, 880, 881, 921, 41, 1}, 39},
    {{21, 45, 80}, CurveKind::kGilbert2dSliced, 0xc83b0ece, 9627, {0, 1, 81, 80, 160, 240, 241, 161}, 72079},
    {{21, 33, 60}, CurveKind::kGilbert2dSliced, 0x7ec7b3b6, 4477, {0, 60, 61, 1, 2, 3, 63, 62}, 39659},
    {{21, 30, 52}, CurveKind::kGilbert2dSliced, 0xe437d18e, 3460, {0, 52, 53, 1, 2, 3, 55, 54}, 31251},
    {{3, 5, 7}, CurveKind::kGilbert3d, 0x553a4841, 1, {0, 1, 36, 35, 70, 71, 72, 73}, 6},
    {{3, 5, 7}, CurveKind::kGilbert2dSliced, 0xa3defa91, 1, {0, 1, 2, 3, 10, 9, 8, 7}, 76},
};

// Adjacent blocks per block, itself included, at 128 tokens a block. mean and density as printed: two digits, and
// hundredths of a percent.
struct DegreeRow {
  TokenGrid grid;
  CurveKind kind;
  int64_t num_blocks, min;
  double mean;
  int64_t max;
  double density_percent;
};

inline const std::vector<DegreeRow> kDegrees = {
    {{32, 45, 80}, CurveKind::kGilbert3d, 900, 6, 18.70, 32, 2.08},
    {{32, 33, 60}, CurveKind::kGilbert3d, 495, 5, 17.25, 33, 3.49},
    {{32, 22, 40}, CurveKind::kGilbert3d, 220, 6, 16.83, 30, 7.65},
    {{32, 68, 52}, CurveKind::kGilbert3d, 884, 5, 18.98, 34, 2.15},
    {{21, 45, 80}, CurveKind::kGilbert2dSliced, 591, 6, 16.29, 29, 2.76},
    {{21, 33, 60}, CurveKind::kGilbert2dSliced, 325, 6, 13.78, 25, 4.24},
    {{21, 30, 52}, CurveKind::kGilbert2dSliced, 256, 6, 13.52, 23, 5.28},
    {{21, 22, 39}, CurveKind::kGilbert2dSliced, 141, 6, 10.86, 16, 7.70},
};

inline std::ostream& operator<<(std::ostream& out, const TokenGrid& grid) {
  return out << grid.t << 'x' << grid.h << 'x' << grid.w;
}
inline std::ostream& operator<<(std::ostream& out, const ConformanceRow& row) { return out << row.grid; }
inline std::ostream& operator<<(std::ostream& out, const DegreeRow& row) { return out << row.grid; }

}  // namespace jenga::core
