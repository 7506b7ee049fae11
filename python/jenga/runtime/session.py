"""The way of one attention call through a run: `attend`, for any host.

A host makes a `CarvedCall` for every model call that it wants carved, and hands every self-attention call in it to
`attend`. What is decided where: the settings and the layout say whether a call is carved at all, anchors what a layer
computes at a step, the configuration how it is carved.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..carving.attention import DENSE, CarvedResult
from ..carving.config import JengaConfig
from ..carving.dispatch import NoBackend
from .anchors import ANCHOR, Anchors, AnchorStep
from .call import AttentionInput, Block, Layer
from .carved_call import CarvedCall
from .fallback import fall_back, meet
from .find_layout import attention_unlike
from .head_split import HeadShare
from .measure import Stopwatch
from .over_devices import OfHeads, carve_on_devices, dense_on_devices

NOT_RECURRING = (
    "no anchors for conditionings that start after the first steps again and again (context windows that move, weights "
    "on a schedule): what an anchor keeps would not be used"
)


def attend(
    carved_call: CarvedCall,
    block: Block | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    softmax_scale: float | None,
    dense: Callable[[], torch.Tensor],
    exact: Callable[[Layer], torch.Tensor] | None = None,
    of_heads: OfHeads | None = None,
) -> torch.Tensor | None:
    """One self-attention call over the video, [B, H, S, D] in and out; None where it is not one (other tokens).

    block: the host's, None where it names none. mask: as the host has it. dense(): what the host would have computed
    of the same tensors; exact(layer): the same for anchors, which need it exact; None: dense. of_heads: the host's
    exact attention of some heads on any device; None: it has none, and one device takes all heads. What ran, and why,
    is told to the run's listener; with strict a fallback raises RuntimeError.
    """
    layout = carved_call.layout
    if layout is None or not layout.holds_video(q.shape[2], q.shape[1] * q.shape[3]):
        return None
    layer = carved_call.layer(block)
    listener, watch = carved_call.run.listener, Stopwatch(q.device)
    exact_here = dense if exact is None else partial(exact, layer)
    chosen, result = _dense_by_choice(carved_call, layer), None
    if chosen:
        listener.choice(chosen)
    else:
        result = _carve(carved_call, layer, q, k, v, mask, softmax_scale, exact_here, of_heads)
    if result is None:
        out = dense_on_devices(carved_call, q, k, v, mask, dense, of_heads) if chosen else dense()
        listener.attention(layer.index, 1.0, DENSE, watch.stop())
        return out
    watch.stop()
    if result.backend == ANCHOR:
        listener.choice("anchor step")
    elif result.lists is not None:
        listener.keep_blocks(layer.index, result.lists, layout.grid, carved_call.config, q.shape[1])
    listener.attention(layer.index, result.kept_share, result.ran, watch)
    if result.reason:
        listener.fallback(result.reason)
    return result.out


def _dense_by_choice(carved_call: CarvedCall, layer: Layer) -> str:
    """Why the settings want this layer dense; empty where they do not."""
    if carved_call.dense_reason:
        return carved_call.dense_reason
    named = layer.occurrence == 0 and layer.block in carved_call.settings.dense_blocks
    return "dense_blocks" if named else ""


def _carve(carved_call: CarvedCall, layer: Layer, q, k, v, mask, softmax_scale, exact, of_heads) -> CarvedResult | None:
    """The carved call; None where it cannot be carved, with the reason told."""
    layout, tokens = carved_call.layout, q.shape[2]
    if layout.dense:
        return refuse(carved_call, layout.dense)
    place = layout.place(tokens)
    if place is None:
        beside = tokens - layout.grid.num_tokens
        return refuse(carved_call, f"{beside} tokens beside the video, {layout.before} should be in front of it")
    kv_mask, readable = carved_call.key_mask(mask, q.shape[0], tokens)
    if not readable:
        return refuse(carved_call, "an attention mask that is not one of padded keys")
    inputs = AttentionInput(q, k, v, layout, place.video_start, place.text_range, kv_mask, softmax_scale)
    for again in (False, True):
        try:
            return _carve_or_refuse(carved_call, layer, inputs, mask, exact, of_heads)
        except NoBackend as error:
            return refuse(carved_call, str(error))
        except torch.OutOfMemoryError:
            if again or not carved_call.run.free_device(q.device):
                break
        fall_back(
            carved_call.run,
            carved_call.settings,
            "out of memory: anchors left the device, the attention call was repeated",
        )
    carved_call.run.drop_anchors(q.device)
    return refuse(carved_call, "out of memory")


def _carve_or_refuse(carved_call: CarvedCall, layer: Layer, inputs: AttentionInput, mask, exact, of_heads):
    if carved_call.search is not None:  # the layout was found: looked at once a run, in the first layer
        compare = partial(attention_unlike, inputs, carved_call.run.carved(carved_call.config, inputs.q.device), exact)
        if reason := carved_call.run.once(("compared", carved_call.owner, carved_call.layout), compare):
            return refuse(carved_call, reason)
    return carve_on_devices(carved_call, inputs, mask, exact, of_heads, partial(_compute, carved_call, layer))


def _compute(
    carved_call: CarvedCall, layer: Layer, inputs: AttentionInput, exact, share: HeadShare | None
) -> CarvedResult:
    """All heads of a call, or a share of them on its device. exact(): the exact output of the same heads."""
    run, config, alone = carved_call.run, carved_call.anchored_config, carved_call.config
    device, home, sharers = inputs.q.device, None, 1
    if share is not None:
        device, home, sharers = share.device, share.home, share.sharers
    carved_for = lambda config, _: run.carved(config, device, home)  # noqa: E731 (two CPUs have one name to a tensor)
    if config is None:
        return inputs.carve(carved_for(alone, device))
    anchors = run.anchors(carved_call.owner, carved_call.anchors, device, home, sharers)
    if share not in carved_call.steps:
        carved_call.steps[share] = _begin(carved_call, anchors, inputs, share)
    amplified = config.text_logit_bias and inputs.text_range is not None  # the host's attention knows nothing of it
    if amplified or (carved_call.own_exact and carved_for(config, device).outruns_dense(inputs.q)):
        everything = replace(config, density=1.0, precision="16-bit")
        exact = lambda: inputs.carve(carved_for(everything, device)).out  # noqa: E731
    return attend_anchored(anchors, carved_call.steps[share], layer.index, inputs, config, alone, carved_for, exact)


def attend_anchored(
    anchors: Anchors,
    step: AnchorStep,
    layer: int,
    inputs: AttentionInput,
    config: JengaConfig,
    alone: JengaConfig,
    carved_for: Callable,
    exact: Callable[[], torch.Tensor],
) -> CarvedResult:
    """One layer of a model call with anchors. The result's backend is "anchor" where its output is the exact one.

    config and alone: carving with anchors, and in its place where the layer has none. carved_for(config, device) gives
    a CarvedAttention. exact(): the exact output [B, H, S, D], asked for at anchors alone.
    """
    device = inputs.q.device
    carved = carved_for(config, device)
    plan = anchors.plan(step, layer, inputs, carved)
    if plan.state is not None:
        try:
            return inputs.carve(carved, plan.state.lists(), plan.state.residual, plan.state.tail_bias)
        finally:
            anchors.release(plan)
    if not plan.anchor:
        return inputs.carve(carved_for(alone, device))
    result = inputs.carve(carved)
    if result.backend == DENSE:  # nothing was carved, so there is nothing to put right
        return result
    out = exact()
    residual = carved.pack_residual(out, result, anchors.config.residual_bits)
    anchors.keep(plan, residual, result, config.num_kv_blocks(inputs.layout.grid.num_tokens))
    every = torch.ones_like(result.kept_share)
    return replace(result, out=out, lse=None, kept_share=every, backend=ANCHOR, precision="16-bit")


def refuse(carved_call: CarvedCall, reason: str) -> None:
    """The call stays dense though carving was asked for: told, or with strict an error."""
    fall_back(carved_call.run, carved_call.settings, f"dense attention: {reason}")


def _begin(carved_call: CarvedCall, anchors: Anchors, inputs: AttentionInput, share: HeadShare | None) -> AnchorStep:
    """The first attention call of a model call tells anchors its shape."""
    call, config, listener = carved_call.call, carved_call.anchored_config, carved_call.run.listener
    q = inputs.q
    shape = (
        carved_call.layout.grid,
        q.shape[0] // len(call.conditionings),
        q.shape[1:],
        q.dtype,
        config.text_logit_bias,
        share,
    )
    step = anchors.begin(call.conditionings, call.evaluation, shape, inputs.kv_mask)
    if step.step < 0:
        listener.note(NOT_RECURRING)
        meet(NOT_RECURRING, config)
    if step.step == 1:  # after step 0 every layer has its place
        words = anchors.describe() if share is None else f"{share.device}: {anchors.describe()}"
        listener.note(words)
        if anchors.num_without_place:
            meet(words, config)
    return step
