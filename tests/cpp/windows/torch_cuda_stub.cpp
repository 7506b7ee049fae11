// The one function that the CUDA library takes from torch_cuda.dll.
#include <cstdint>

extern "C" __declspec(dllexport) int32_t aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
