// Symmetric quantisation of dense - carved, one scale per token and head.
#include <algorithm>
#include <cmath>

#include "kernels/numeric.h"
#include "kernels/reference/reference.h"

namespace jenga::reference {

void pack_residual(const PackResidualParams& p) {
  const float qmax = p.bits == 8 ? 127.0f : 7.0f;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t s = 0; s < p.tokens; ++s) {
      for (int64_t h = 0; h < p.heads; ++h) {
        const int64_t row = (b * p.tokens + s) * p.heads + h;
        auto channel = [&](const Operand& x, int64_t d) {
          return load_element(x.data, b * x.strides.batch + h * x.strides.head + s * x.strides.token + d, x.dtype);
        };
        auto residual = [&](int64_t d) { return channel(p.dense, d) - channel(p.carved, d); };
        float top = 0;
        for (int64_t d = 0; d < p.head_dim; ++d) top = std::max(top, std::abs(residual(d)));
        const float scale = top / qmax;
        p.scale[row] = scale;
        auto code = [&](int64_t d) {
          const float steps = scale > 0 ? std::nearbyint(residual(d) / scale) : 0.0f;
          return static_cast<int>(std::clamp(steps, -qmax, qmax));
        };
        for (int64_t d = 0; d < p.head_dim; d += p.bits == 8 ? 1 : 2) {
          if (p.bits == 8) {
            static_cast<int8_t*>(p.packed)[row * p.head_dim + d] = static_cast<int8_t>(code(d));
          } else {
            static_cast<uint8_t*>(p.packed)[(row * p.head_dim + d) / 2] =
                static_cast<uint8_t>((code(d) & 15) | (code(d + 1) & 15) << 4);
          }
        }
      }
    }
  }
}

}  // namespace jenga::reference
