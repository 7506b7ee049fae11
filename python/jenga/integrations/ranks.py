"""What the ranks of one run agree on, for every engine that gives a rank all tokens of some heads (Ulysses).

Such an engine exchanges sequence for heads before attention and back after it, so that every rank carves its own heads
of the whole sequence: lists, and ties in them, come from these heads alone, and everything else that decides about a
run (anchors, which layers are dense) follows from counts that are the same on all of them.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ..runtime.run import Run

COLLECTIVES = "torch.distributed"  # an error that came through a module of this name is one between ranks
BOOT = Path("/proc/sys/kernel/random/boot_id")


def refuse_ring(degree: int, remedy: str) -> None:
    """Raises ValueError for a ring of more than one rank. remedy: what to say to the engine instead, a sentence."""
    if degree > 1:
        raise ValueError(
            f"context parallel: ring_degree must be 1 with carving, got {degree}; a ring shows each rank a part of the "
            f"keys at a time and carving chooses among all of them. {remedy}"
        )


def check_same_latents(latents: torch.Tensor, group) -> None:
    """Ranks that share one video must start from one noise. Raises ValueError on all of them where they do not."""
    whole = latents.double()
    own = (tuple(latents.shape), float(whole.sum()), float(whole.square().sum()))
    found = gathered(own, group)
    others = [str(rank) for rank, one in enumerate(found) if one != found[0]]
    if others:
        raise ValueError(
            f"context parallel: latents must be the same on all ranks, got others on {', '.join(others)} than on 0; "
            "give the pipeline a generator with one seed on all of them"
        )


def heads_of_rank(mask: torch.Tensor | None, heads: int, local: int, rank: int, ranks: int) -> torch.Tensor | None:
    """A mask [B, heads, rows, S] for the `local` heads of this rank, where each has as many as the first but the last
    may have fewer; any other mask as it is.
    """
    if mask is None or mask.dim() != 4 or mask.shape[1] != heads or heads == local:
        return mask
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
    """So many tokens, split evenly: the first ranks take what is left."""
    return [size // ranks + (rank < size % ranks) for rank in range(ranks)]


def gathered(own, group) -> list:
    """An object of every rank, by rank."""
    found = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(found, own, group)
    return found


def ranks_of_host(group) -> int:
    """How many ranks of a process group run on this machine, in whatever containers: they share its memory."""
    own = BOOT.read_text() if BOOT.exists() else socket.gethostname()
    return gathered(own, group).count(own)


@contextmanager
def shared_run(group, run: Run) -> Iterator[None]:
    """A run on every rank of a process group: the ranks of a host share its memory, what each took is told to rank 0,
    and a rank that ends ends them all.

    Raises RuntimeError where a collective failed.
    """
    rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    start = time.perf_counter()
    try:
        run.sharers = ranks_of_host(group)
        yield
        seconds = gathered(time.perf_counter() - start, group)
    except Exception as error:
        if not _between_ranks(error):
            raise
        raise RuntimeError(
            f"context parallel: all {ranks} ranks must stay until the run is over, got an error between them on rank "
            f"{rank}: {error}. Another rank has most likely ended: its own error says why, look there first"
        ) from error
    if rank == 0:
        words = ", ".join(f"{one:.2f} s" for one in seconds)
        run.listener.note(f"one video over {ranks} ranks: {words}")


def _between_ranks(error: Exception) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals.get("__name__", "").startswith(COLLECTIVES):
            return True
        frame = frame.tb_next
    return False
