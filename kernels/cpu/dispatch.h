// The CPU tiers as an ordered table, best first. A tier is usable where the machine has every instruction set that its
// files are compiled with; the first usable one is live. JENGA_FORCE_ISA=<isa> makes another one live.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernels/params.h"

namespace jenga::cpu {

struct KernelTable {
  const char* isa;  // generic | avx2 | avx512 | avx512_bf16
  bool (*supported)();
  void (*prepare_blocks)(const PrepareBlocksParams&, ParallelFor);
  void (*select_blocks)(const SelectBlocksParams&, ParallelFor);
  void (*tail_bias)(const TailBiasParams&, ParallelFor);
  void (*block_sparse_attention)(const BlockSparseAttentionParams&, ParallelFor);
  void (*pack_residual)(const PackResidualParams&, ParallelFor);
};

// Every tier this build has, best first; the last one (generic) runs anywhere.
std::span<const KernelTable* const> kernel_tables();

// The tier in use. Reads JENGA_FORCE_ISA at every call; throws std::runtime_error with the remedy where it names a tier
// that does not exist or that this machine cannot run.
const KernelTable& live_table();

// The instruction sets a tier's gate asks for, as compiler flags ("-mavx2 -mfma -mf16c"); "" for an unknown name.
std::string gate_flags(std::string_view isa);

}  // namespace jenga::cpu
