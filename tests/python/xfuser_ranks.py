"""One of two ranks of xfuser on the CPU. Run by test_xfuser.py with the environment of torchrun.

xfuser takes a build of torch with CUDA for a machine with a GPU, and asks for its own engine's configuration: both are
stood in for here; the exchange and the attention call are its own.
"""

import os
import sys
import types
from pathlib import Path

import diffusers_models as models
import diffusers_ranks
import torch

from jenga.integrations.diffusers import apply


def initialize(rank: int, ranks: int) -> None:
    import xfuser.model_executor.layers.usp as usp
    from xfuser import envs
    from xfuser.core.distributed import group_coordinator, parallel_state, runtime_state
    from xfuser.core.distributed.attention_backend import AttentionBackendType
    from yunchang.globals import PROCESS_GROUP

    envs.get_device_name, envs.get_device = lambda: "cpu", lambda local_rank: torch.device("cpu")
    parallel_state.HAS_LONG_CTX_ATTN = group_coordinator.HAS_LONG_CTX_ATTN = True
    usp.PROCESS_GROUP = PROCESS_GROUP
    parallel_state.init_distributed_environment(rank=rank, world_size=ranks, local_rank=rank, backend="gloo")
    parallel_state.initialize_model_parallel(ulysses_degree=ranks, sequence_parallel_degree=ranks, backend="gloo")
    state = types.SimpleNamespace(
        attention_backend=AttentionBackendType.SDPA,
        fp8_comms=None,
        runtime_config=types.SimpleNamespace(use_spargeattn_head_balance=False),
        increment_step_counter=lambda: None,
        get_cross_attention_backend=lambda: state.attention_backend,
    )
    runtime_state._RUNTIME = state


def main() -> None:
    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    initialize(rank, ranks)
    from xfuser.model_executor.models.transformers.transformer_wan import xFuserWanTransformer3DWrapper

    pipeline, latents, arguments = models.make(models.wan)
    shared = xFuserWanTransformer3DWrapper(num_layers=2, **models.WAN).eval()
    shared.load_state_dict(pipeline.transformer.state_dict())
    pipeline = models.Loop(shared, pipeline.scheduler)
    found = {"dense": pipeline(latents, arguments)}
    with apply(pipeline, diffusers_ranks.ANCHORED):
        found["carved"] = pipeline(latents, arguments)
    torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")


if __name__ == "__main__":
    main()
    os._exit(0)  # xfuser's modules hold the groups, whose threads would be there as the interpreter ends (ranks.leave)
