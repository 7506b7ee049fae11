#include "kernels/cuda/sm90/tickets.h"

#include <algorithm>

#include "kernels/cuda/common/tile_order.h"
#include "kernels/cuda/driver/device.h"

namespace jenga::cuda::sm90 {
namespace {

// So many heads come after the context tiles that their work lasts as long as the context tiles of one processor.
int32_t first_context_ticket(const TileWalk& walk, int64_t processors) {
  const int64_t batch_heads = walk.params.batch * walk.params.heads;
  const int64_t blocks_after =
      ceil_div(batch_heads * walk.context_blocks, processors) * processors * walk.num_kv_blocks;
  const int64_t blocks_of_a_head = std::max<int64_t>(1, walk.num_q_blocks * walk.params.max_kv);
  const int64_t heads_after = std::min(batch_heads, ceil_div(blocks_after, blocks_of_a_head));
  return static_cast<int32_t>((batch_heads - heads_after) * walk.num_q_blocks);
}

}  // namespace

CUresult make_tickets(const BlockSparseAttentionParams& params, void* workspace, CUstream stream, Tickets* tickets) {
  const int64_t number = num_tickets(params);
  *tickets = {};
  if (number == 0) return CUDA_SUCCESS;
  if (number > INT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  int processors = 0;
  if (CUresult error = device_attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &processors)) return error;
  int32_t* const tile_order = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(workspace) + kTicketBytes);
  tickets->walk = make_tile_walk(params, tile_order);
  tickets->walk.first_context_ticket = first_context_ticket(tickets->walk, processors);
  tickets->next = static_cast<int32_t*>(workspace);
  tickets->number = static_cast<int32_t>(number);
  tickets->resident = std::min(processors, tickets->number);
  if (CUresult error = order_tiles(params.kv_block_count, params.batch * params.heads, tickets->walk.num_q_blocks,
                                   tile_order, stream))
    return error;
  return fill_words(tickets->next, 0, 1, stream);
}

}  // namespace jenga::cuda::sm90
