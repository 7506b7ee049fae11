// Prints what every operator launches on a card of every generation, one line a kernel: architecture, kernel, threads
// of a thread block, bytes of dynamic shared memory (check_resources.py). The driver is the fake one.
#include <cstdio>
#include <set>

#include "kernels/cuda/launch.h"
#include "tests/cpp/cuda/driver/launches.h"

namespace jenga::testing {
namespace {

constexpr Shape kLong{1, 2, 256, 115200};  // a clip: lists and bitsets as long as they are in use

struct Card {
  const char* arch;
  FakeDevice device;
};
constexpr Card kCards[] = {{"sm_80", kA100}, {"sm_86", kRtx3090}, {"sm_89", kRtx4090},
                           {"sm_90", kH100}, {"sm_100", kB200},   {"sm_120", kRtx5090}};

std::set<std::string> lines;
std::string arch;

void write_down(const FakeLaunch* launch) {
  const CUlaunchConfig& c = launch->config;
  const std::string kernel = launch->kernel;
  if (kernel == "memset") return;
  lines.insert(arch + " " + kernel + " " + std::to_string(c.blockDimX) + " " + std::to_string(c.sharedMemBytes));
}

// Calls that the card has no kernel for launch nothing.
void launch_everything(DataType dtype, int64_t head_dim) {
  cuda::prepare_blocks(prepare_case(dtype, head_dim, true, kLong), nullptr, nullptr);
  cuda::select_blocks(select_case(dtype, head_dim, kLong.video), address(20), nullptr);
  cuda::tail_bias(tail_case(dtype, head_dim, kLong), nullptr);
  cuda::pack_residual(pack_case(dtype, head_dim, 8, kLong), nullptr);
  cuda::kept_share(kept_case(kLong), nullptr);
  for (const auto& params :
       {attention_case(dtype, head_dim, true, kLong), int8_attention_case(dtype, head_dim, true, kLong),
        fp8_attention_case(dtype, head_dim, true, kLong)})
    cuda::block_sparse_attention(params, address(21), nullptr);
  PrepareBlocksParams prepare = prepare_case(dtype, head_dim, true, kLong);
  prepare.k_scale = prepare.k_tail_scale = prepare.k_center = static_cast<float*>(address(22));
  cuda::prepare_blocks(prepare, nullptr, nullptr);
  prepare.v_scale = prepare.v_center = static_cast<float*>(address(25));
  cuda::prepare_blocks(prepare, nullptr, nullptr);
}

}  // namespace
}  // namespace jenga::testing

int main() {
  using namespace jenga::testing;
  fake_set_listener(write_down);
  fake_set_current(true);
  for (const Card& card : kCards) {
    arch = card.arch;
    fake_set_device(&card.device);
    for (const auto dtype : {kBrain, kHalf}) {
      for (const int64_t head_dim : {8, 16, 32, 64, 96, 128, 192, 256}) launch_everything(dtype, head_dim);
    }
  }
  for (const std::string& line : lines) std::puts(line.c_str());
  return lines.empty();
}
