// kernels/reference as a C library, for tests/python/cpp_reference.py: the parameter structs come as they are.
#include <cstddef>

#include "kernels/reference/reference.h"

#define JENGA_CALL extern "C" __attribute__((visibility("default")))

JENGA_CALL size_t jenga_size_of_prepare_blocks() { return sizeof(jenga::PrepareBlocksParams); }
JENGA_CALL size_t jenga_size_of_block_sparse_attention() { return sizeof(jenga::BlockSparseAttentionParams); }
JENGA_CALL void jenga_prepare_blocks(const jenga::PrepareBlocksParams* params) {
  jenga::reference::prepare_blocks(*params);
}
JENGA_CALL void jenga_block_sparse_attention(const jenga::BlockSparseAttentionParams* params) {
  jenga::reference::block_sparse_attention(*params);
}
