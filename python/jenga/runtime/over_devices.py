"""One attention call on the devices of its run: its heads over several, or whole on one, also after a failure."""

from collections.abc import Callable
from dataclasses import replace

import torch

from ..carving.attention import DENSE, CarvedResult
from .call import AttentionInput
from .carved_call import CarvedCall
from .devices import AUTO, can_reach, others_for
from .fallback import fall_back
from .head_split import DeviceFailed, HeadShare, HeadSplit

# Copies grow with the tokens and work with their square: at 380 GB/s (NVLink) and 10 % kept, copies of a head take as
# long as its work at some 24,000 tokens, dense at 3,000. Two thirds of the former, since pieces overlap.
AUTO_TOKENS = 16384
# q, k, v [B, H, S, D] of some heads and the host's mask, all on one device -> the host's exact attention of them.
OfHeads = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def carve_on_devices(
    carved_call: CarvedCall,
    inputs: AttentionInput,
    mask: torch.Tensor | None,
    exact: Callable[[], torch.Tensor],
    of_heads: OfHeads | None,
    compute: Callable[[AttentionInput, Callable, HeadShare | None], CarvedResult],
) -> CarvedResult:
    """compute(inputs, exact, share) for the whole call with share None, or for every share of it.

    mask: as the host has it, one that `key_mask` has read. of_heads: None where the host cannot attend to a share.
    """

    def work(share: HeadShare, q, k, v, masks) -> CarvedResult:
        mask, kv_mask = masks
        return compute(replace(inputs, q=q, k=k, v=v, kv_mask=kv_mask), lambda: of_heads(q, k, v, mask), share)

    split = split_of(carved_call, inputs.q)
    if split is not None and of_heads is None:
        carved_call.run.listener.note(f"all heads on {inputs.q.device} in calls that the host takes whole alone")
        split = None
    found = None if split is None else _tried(carved_call, split, inputs.q, inputs.k, inputs.v, mask, work)
    return compute(inputs, exact, None) if found is None else found


def dense_on_devices(
    carved_call: CarvedCall,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    dense: Callable[[], torch.Tensor],
    of_heads: OfHeads | None,
) -> torch.Tensor:
    """Dense attention that was chosen: dense(), or the host's exact attention of every share."""
    _, readable = carved_call.key_mask(mask, q.shape[0], q.shape[2])
    usable = readable and of_heads is not None and carved_call.own_dense
    split = split_of(carved_call, q) if usable else None

    def work(share: HeadShare, q, k, v, masks) -> CarvedResult:
        return CarvedResult(of_heads(q, k, v, masks[0]), None, torch.ones((), device=q.device), DENSE, "")

    found = None if split is None else _tried(carved_call, split, q, k, v, mask, work)
    return dense() if found is None else found.out


def split_of(carved_call: CarvedCall, q: torch.Tensor) -> HeadSplit | None:
    """Who shares the heads of a call with these queries; None where their device computes them alone."""
    wanted, home = carved_call.settings.devices, q.device
    if not wanted or (home.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return None
    if wanted == (AUTO,) and q.shape[2] < AUTO_TOKENS:
        short = f"in calls of fewer than {AUTO_TOKENS:,} tokens: copies would cost more than they save"
        carved_call.run.listener.note(f"all heads on {home} {short}")
        return None
    split = carved_call.run.once(("heads over devices", wanted, home), lambda: _begin(carved_call, home))
    return None if split.failure else split


def _begin(carved_call: CarvedCall, home: torch.device) -> HeadSplit:
    wanted, listener = carved_call.settings.devices, carved_call.run.listener
    others, reason = others_for(home, wanted)
    if wanted == (AUTO,) and carved_call.occupied:
        others, reason = (), carved_call.occupied
    split = HeadSplit(home, others)
    if not others:
        split.failure = reason
        words = f"all heads on {home}: {reason}"
        if wanted == (AUTO,):  # asked for where it can be had
            listener.note(words)
        else:
            fall_back(carved_call.run, carved_call.settings, words)
        return split
    for device in others:
        listener.other_device(device)
    far = [str(device) for device in others if not can_reach(home, device)]
    detour = f"; {home} reaches {', '.join(far)} through host memory alone, which is slow" if far else ""
    listener.note(f"heads over {', '.join(map(str, (home, *others)))}{detour}")
    return split


def _tried(carved_call: CarvedCall, split: HeadSplit, q, k, v, mask, work) -> CarvedResult | None:
    """The call over the devices of a split; None where one has failed, which is told and ends the split."""
    try:
        return split(q, k, v, carved_call.moved_masks(mask), work)
    except DeviceFailed as failed:
        split.failure = str(failed)
    carved_call.run.bring_home(split.home)
    fall_back(carved_call.run, carved_call.settings, f"all heads on {split.home}: {split.failure}")
    return None
