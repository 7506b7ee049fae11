"""One sequence over several GPUs in diffusers: the library moves the tensors, every rank carves its heads.

The library's Ulysses attention gives each rank all tokens of some heads, so carving there needs nothing of the other
ranks. What is decided in a run (anchors, which layers are dense) follows from counts that are the same on all of them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..runtime.listener import Listener
from . import diffusers_private as private

MEASURING_CACHES = ("FirstBlockCache", "SeaCache")
COLLECTIVES = "torch.distributed"  # an error that came through a module of this name is one between ranks


def context_parallel_plan(transformer) -> dict:
    """The cp_plan argument of the library's enable_parallelism: how a forward's tensors are split over the ranks.

    Wan, LTX and MiniMax H3 have the library's own. That of HunyuanVideo is ours: video and text are split each, and
    come back into their order between the exchanges, which only a transformer with Jenga on it does. Raises ValueError
    for any other: the library's plan for LTX-2 leaves a part of its rotary embedding whole, and the others have none.
    """
    from diffusers.hooks.context_parallel import ContextParallelInput, ContextParallelOutput

    name = type(transformer).__name__
    if name in ("WanTransformer3DModel", "LTXVideoTransformer3DModel", "MiniMaxH3Transformer3DModel"):
        return transformer._cp_plan
    if name != "HunyuanVideoTransformer3DModel":
        known = "Wan, LTX, HunyuanVideo or MiniMax H3"
        raise ValueError(f"context_parallel_plan: transformer must be of {known}, got {name}")
    if transformer.config.image_condition_type == "token_replace":
        raise ValueError(
            "context_parallel_plan: transformer must treat all tokens alike, got image_condition_type 'token_replace', "
            "which finds the first frame by its place in the sequence"
        )
    tokens = ContextParallelInput(split_dim=1, expected_dims=3)
    rotary = ContextParallelInput(split_dim=0, expected_dims=2, split_output=True)
    return {
        "transformer_blocks.0": {"hidden_states": tokens, "encoder_hidden_states": tokens},
        "rope": {0: rotary, 1: rotary},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }


def refuse_ring(degree: int) -> None:
    if degree > 1:
        raise ValueError(
            f"context parallel: ring_degree must be 1 with carving, got {degree}; a ring shows each rank a part of the "
            "keys at a time and carving chooses among all of them. Use ContextParallelConfig(ulysses_degree=...)"
        )


def refuse_measuring_cache(name: str) -> None:
    """name: of the library's step cache on a transformer whose sequence several ranks share, empty for none."""
    if name in MEASURING_CACHES:
        raise ValueError(
            f"context parallel: the step cache must decide by the schedule alone, got {name}; it measures what its own "
            "rank holds of the sequence, and ranks that decide apart wait for each other forever. Use MagCache, "
            "FasterCache or PyramidAttentionBroadcast"
        )


def check_same_latents(latents: torch.Tensor, group) -> None:
    """Ranks that share one video must start from one noise. Raises ValueError on all of them where they do not."""
    whole = latents.double()
    own = (tuple(latents.shape), float(whole.sum()), float(whole.square().sum()))
    found = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(found, own, group)
    others = [str(rank) for rank, one in enumerate(found) if one != found[0]]
    if others:
        raise ValueError(
            f"context parallel: latents must be the same on all ranks, got others on {', '.join(others)} than on 0; "
            "give the pipeline a generator with one seed on all of them"
        )


def heads_of_rank(mask: torch.Tensor | None, heads: int, local: int, parallel_config) -> torch.Tensor | None:
    """A mask [B, heads, rows, S] for the `local` heads of this rank; any other mask as it is."""
    if mask is None or mask.dim() != 4 or mask.shape[1] != heads or heads == local:
        return mask
    ranks, rank = private.degrees(parallel_config)[0], torch.distributed.get_rank(private.group_of(parallel_config))
    first = rank * -(-heads // ranks)
    return mask[:, first : first + local]


@dataclass(frozen=True)
class JointOrder:
    """After the exchange a sequence is [video part, context part] of rank 0, then of rank 1, and so on.

    parts: for each rank, how many tokens of video and of context.
    """

    parts: tuple[tuple[int, int], ...]

    def raster(self, x: torch.Tensor) -> torch.Tensor:
        """[B, S, H, D] as it comes -> [video, context]."""
        pieces = x.split([size for part in self.parts for size in part], 1)
        return torch.cat([*pieces[0::2], *pieces[1::2]], 1)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """[video, context] -> the order of the exchange."""
        ranks = len(self.parts)
        pieces = x.split([part[0] for part in self.parts] + [part[1] for part in self.parts], 1)
        return torch.cat([piece for rank in range(ranks) for piece in (pieces[rank], pieces[ranks + rank])], 1)


def joint_order(num_video: int, num_context: int, ranks: int) -> JointOrder | None:
    """The order of exchanged sequences of so many tokens; None where it is the raster order."""
    if num_context == 0:
        return None
    return JointOrder(tuple(zip(shares(num_video, ranks), shares(num_context, ranks), strict=True)))


def shares(size: int, ranks: int) -> list[int]:
    """How the library splits so many tokens: evenly, the first ranks take what is left."""
    return [size // ranks + (rank < size % ranks) for rank in range(ranks)]


@contextmanager
def shared_run(group, listener: Listener) -> Iterator[None]:
    """A run on every rank of a process group: what each took is told to rank 0, and a rank that ends ends them all.

    Raises RuntimeError where a collective failed.
    """
    rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    start = time.perf_counter()
    try:
        yield
        seconds = [None] * ranks
        torch.distributed.all_gather_object(seconds, time.perf_counter() - start, group)
    except Exception as error:
        if not _between_ranks(error):
            raise
        raise RuntimeError(
            f"context parallel: all {ranks} ranks must stay until the run is over, got an error between them on rank "
            f"{rank}: {error}. Another rank has most likely ended: its own error says why, look there first"
        ) from error
    if rank == 0:
        listener.note("one video over {} ranks: {}".format(ranks, ", ".join(f"{one:.2f} s" for one in seconds)))


def _between_ranks(error: Exception) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__", "").startswith(COLLECTIVES):
            return True
        frame = frame.tb_next
    return False
