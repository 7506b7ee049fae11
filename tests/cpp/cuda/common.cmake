# Tests of kernels/cuda/common and kernels/cuda/sm80; the including file makes one executable of them.
set(JENGA_CUDA_COMMON_TESTS
  kept_share_test.cpp
  pack_residual_test.cpp
  prepare_blocks_test.cpp
  prepare_int8_blocks_test.cpp
  select_blocks_test.cpp
  sm80_attention_test.cpp
  sm80_int8_attention_test.cpp
  tail_bias_test.cpp)
