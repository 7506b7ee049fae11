// Panels, the layout of 16-bit operands in shared memory that Hopper's copies and products know: 64 channels of a row
// are 128 bytes.
#pragma once

namespace jenga::cuda::sm90 {

inline constexpr int kPanelChannels = 64;
inline constexpr int kPanelRowBytes = 128;
inline constexpr int kPanelAlignment = 1024;  // of eight rows, after which the swizzle repeats

}  // namespace jenga::cuda::sm90
