// The operators of the pipeline on CUDA: kernels/cuda does the work, on the device of the tensors and the current
// stream.
#include "csrc/ops/block_sparse_attention.h"
#include "csrc/ops/cuda/launch_scope.h"
#include "csrc/ops/kept_share.h"
#include "csrc/ops/operator.h"
#include "csrc/ops/pack_residual.h"
#include "csrc/ops/prepare_blocks.h"
#include "csrc/ops/select_blocks.h"
#include "csrc/ops/tail_bias.h"
#include "kernels/cuda/launch.h"

namespace jenga::ops {
namespace {

// Device memory of a launch, none where it needs none. From the caching allocator: safe in a CUDA graph.
class Workspace {
 public:
  Workspace(const Tensor& like, size_t bytes) {
    if (bytes > 0) memory_ = new_tensor(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
  }
  void* get() const { return memory_ ? memory_->mutable_data_ptr() : nullptr; }

 private:
  std::optional<Tensor> memory_;
};

constexpr char kPrepare[] = "prepare_blocks", kPrepareInt8[] = "prepare_int8_blocks",
               kPrepareFp8[] = "prepare_fp8_blocks";

// kName: of the operator.
template <const char* kName, class Call>
void launch_prepare(const Call& call) {
  const LaunchScope scope(call.q);
  const Workspace workspace(call.q, cuda::prepare_blocks_workspace(call.params));
  check_launch(kName, cuda::prepare_blocks(call.params, workspace.get(), scope.stream()));
}

void launch_select_blocks(const SelectBlocksCall& call) {
  constexpr const char* kOp = "select_blocks";
  const LaunchScope scope(call.q_means);
  int64_t most = 0;
  check_launch(kOp, cuda::most_selectable_blocks(&most));
  JENGA_REQUIRE(call.params.num_kv_blocks() <= most, kOp, ": num_video must be at most ", most,
                " key blocks on this GPU (their scores stay in shared memory), got ", call.params.num_kv_blocks(),
                "; take key blocks of 128 tokens or the torch backend");
  const Workspace workspace(call.q_means, cuda::select_blocks_workspace(call.params));
  check_launch(kOp, cuda::select_blocks(call.params, workspace.get(), scope.stream()), "q_means");
}

void launch_tail_bias(const TailBiasCall& call) {
  const LaunchScope scope(call.q_means);
  check_launch("tail_bias", cuda::tail_bias(call.params, scope.stream()), "q_means");
}

void launch_block_sparse_attention(const BlockSparseAttentionCall& call) {
  const LaunchScope scope(call.q);
  const Workspace workspace(call.q, cuda::block_sparse_attention_workspace(call.params));
  check_launch("block_sparse_attention", cuda::block_sparse_attention(call.params, workspace.get(), scope.stream()));
}

void launch_pack_residual(const PackResidualCall& call) {
  const LaunchScope scope(call.dense);
  check_launch("pack_residual", cuda::pack_residual(call.params, scope.stream()));
}

void launch_kept_share(const KeptShareCall& call) {
  const LaunchScope scope(call.kv_block_index);
  check_launch("kept_share", cuda::kept_share(call.params, scope.stream()), "kv_block_index");
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(jenga, CUDA, m) {
  implement<make_prepare_blocks, launch_prepare<kPrepare, PrepareBlocksCall>>(m, kPrepare);
  implement<make_prepare_int8_blocks, launch_prepare<kPrepareInt8, PrepareInt8BlocksCall>>(m, kPrepareInt8);
  implement<make_prepare_fp8_blocks, launch_prepare<kPrepareFp8, PrepareFp8BlocksCall>>(m, kPrepareFp8);
  implement<make_select_blocks, launch_select_blocks>(m, "select_blocks");
  implement<make_tail_bias, launch_tail_bias>(m, "tail_bias");
  implement<make_block_sparse_attention, launch_block_sparse_attention>(m, "block_sparse_attention");
  implement<make_pack_residual, launch_pack_residual>(m, "pack_residual");
  implement<make_kept_share, launch_kept_share>(m, "kept_share");
}

}  // namespace jenga::ops
