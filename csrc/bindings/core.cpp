// Python module _core: csrc/core on numpy arrays, for property tests and offline tools. One function per core function,
// same names and argument order; std::invalid_argument arrives as ValueError.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <span>
#include <stdexcept>
#include <string>

#include "csrc/core/adjacency.h"
#include "csrc/core/curve.h"
#include "csrc/core/selection.h"

namespace py = pybind11;

namespace jenga::core {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <typename T>
std::span<const T> span(const Array<T>& array) {
  return {array.data(), static_cast<size_t>(array.size())};
}

template <typename T>
py::array_t<T> array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

CurveKind checked_curve(const char* op, const std::string& name) {
  const auto kind = curve_kind_from_name(name);
  if (!kind) {
    throw std::invalid_argument(std::string(op) + ": curve must be gilbert3d, gilbert2d_sliced or raster, got " + name);
  }
  return *kind;
}

py::array_t<bool> block_adjacency_of_grid(int64_t t, int64_t h, int64_t w, const std::string& curve,
                                          int64_t block_size) {
  const TokenGrid grid{t, h, w};
  const std::vector<uint8_t> adjacent =
      block_adjacency(grid, curve_order(grid, checked_curve("block_adjacency", curve)), block_size);
  const py::ssize_t num_blocks = (t * h * w - 1) / block_size + 1;
  py::array_t<bool> result({num_blocks, num_blocks});
  std::copy(adjacent.begin(), adjacent.end(), result.mutable_data());
  return result;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "csrc/core for property tests and offline tools";

  m.def(
      "curve_order",
      [](int64_t t, int64_t h, int64_t w, const std::string& curve) {
        return array(curve_order({t, h, w}, checked_curve("curve_order", curve)));
      },
      py::arg("t"), py::arg("h"), py::arg("w"), py::arg("curve"),
      "int32 [t*h*w]: raster index at every curve position.");

  m.def(
      "curve_rank", [](const Array<int32_t>& order) { return array(curve_rank(span(order))); }, py::arg("order"),
      "int32 [N]: curve position of every raster index.");

  m.def("block_adjacency", &block_adjacency_of_grid, py::arg("t"), py::arg("h"), py::arg("w"), py::arg("curve"),
        py::arg("block_size"), "bool [nb, nb]: blocks that touch in the video.");

  m.def(
      "select_row",
      [](const Array<float>& scores, int64_t min_blocks, float top_p, std::optional<Array<uint8_t>> forced) {
        return array(select_row(span(scores), min_blocks, top_p, forced ? span(*forced) : std::span<const uint8_t>()));
      },
      py::arg("scores"), py::arg("min_blocks"), py::arg("top_p"), py::arg("forced") = py::none(),
      "int32 [count]: the key blocks that one query block keeps, ascending.");
}

}  // namespace jenga::core
