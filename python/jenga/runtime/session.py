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
from .find_layout import attention_unlike
from .measure import Stopwatch
from .run import Run
from .settings import CarvingSettings

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
) -> torch.Tensor | None:
    """One self-attention call over the video, [B, H, S, D] in and out; None where it is not one (other tokens).

    block: the host's, None where it names none. mask: as the host has it. dense(): what the host would have computed
    of the same tensors; exact(layer): the same for anchors, which need it exact; None: dense. What ran, and why, is
    told to the run's listener; with strict a fallback raises RuntimeError.
    """
    layout = carved_call.layout
    if layout is None or not layout.holds_video(q.shape[2], q.shape[1] * q.shape[3]):
        return None
    layer = carved_call.layer(block)
    listener, watch = carved_call.run.listener, Stopwatch(q.device)
    exact_here = dense if exact is None else partial(exact, layer)
    result = _carve(carved_call, layer, q, k, v, mask, softmax_scale, exact_here)
    if result is None:
        out = dense()
        listener.attention(layer.index, 1.0, DENSE, watch.stop())
        return out
    watch.stop()
    if result.backend == ANCHOR:
        listener.choice("anchor step")
    elif result.lists is not None:
        listener.keep_blocks(layer.index, result.lists, layout.grid, carved_call.config)
    listener.attention(layer.index, result.kept_share, result.backend, watch)
    if result.reason:
        listener.fallback(result.reason)
    return result.out


def _carve(carved_call: CarvedCall, layer: Layer, q, k, v, mask, softmax_scale, exact) -> CarvedResult | None:
    """The carved call; None where it must stay dense, with the reason told."""
    listener, layout, tokens = carved_call.run.listener, carved_call.layout, q.shape[2]
    if carved_call.dense_reason:
        return listener.choice(carved_call.dense_reason)
    if layer.occurrence == 0 and layer.block in carved_call.settings.dense_blocks:
        return listener.choice("dense_blocks")
    place = layout.place(tokens)
    if place is None:
        beside = tokens - layout.grid.num_tokens
        return refuse(carved_call, f"{beside} tokens beside the video, {layout.before} should be in front of it")
    kv_mask, readable = carved_call.key_mask(mask, q.shape[0], tokens)
    if not readable:
        return refuse(carved_call, "an attention mask that is not one of padded keys")
    inputs = AttentionInput(q, k, v, layout, place.video_start, place.text_range, kv_mask, softmax_scale)
    try:
        if carved_call.search is not None:  # the layout was found: looked at once a run, in the first layer
            compare = partial(attention_unlike, inputs, carved_call.run.carved(carved_call.config, q.device), exact)
            if reason := carved_call.run.once(("compared", carved_call.owner, layout), compare):
                return refuse(carved_call, reason)
        if carved_call.anchors is None:
            return inputs.carve(carved_call.run.carved(carved_call.config, q.device))
        return _with_anchors(carved_call, layer, inputs, exact)
    except torch.OutOfMemoryError:
        carved_call.run.drop_anchors(q.device)
        return refuse(carved_call, "out of memory")
    except NoBackend as error:
        return refuse(carved_call, str(error))


def _with_anchors(carved_call: CarvedCall, layer: Layer, inputs: AttentionInput, exact) -> CarvedResult:
    run, config, device = carved_call.run, carved_call.anchored_config, inputs.q.device
    anchors = run.anchors(carved_call.owner, carved_call.anchors, device)
    if carved_call.step is None:
        carved_call.step = _begin(carved_call, anchors, inputs)
    amplified = config.text_logit_bias and inputs.text_range is not None  # the host's attention knows nothing of it
    if amplified or (carved_call.own_exact and run.carved(config, device).outruns_dense(inputs.q)):
        exact = lambda: inputs.carve(run.carved(replace(config, density=1.0), device)).out  # noqa: E731
    return attend_anchored(
        anchors, carved_call.step, layer.index, inputs, config, carved_call.config, run.carved, exact
    )


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
        return inputs.carve(carved, plan.state.lists(), plan.state.residual)
    if not plan.anchor:
        return inputs.carve(carved_for(alone, device))
    result = inputs.carve(carved)
    if result.backend == DENSE:  # nothing was carved, so there is nothing to put right
        return result
    out = exact()
    residual = carved.pack_residual(out, result, anchors.config.residual_bits)
    anchors.keep(plan, residual, result.lists, config.num_kv_blocks(inputs.layout.grid.num_tokens))
    return replace(result, out=out, lse=None, kept_share=torch.ones_like(result.kept_share), backend=ANCHOR)


def refuse(carved_call: CarvedCall, reason: str) -> None:
    """The call stays dense though carving was asked for: told, or with strict an error."""
    fall_back(carved_call.run, carved_call.settings, f"dense attention: {reason}")


def fall_back(run: Run, settings: CarvingSettings, reason: str) -> None:
    """Less than was asked for: told, or with strict an error."""
    _meet(reason, settings.config)
    run.listener.fallback(reason)


def _meet(reason: str, config: JengaConfig) -> None:
    """Raises RuntimeError for any fallback with strict."""
    if config.strict:
        raise RuntimeError(f"carving: strict must not meet a fallback, got {reason}")


def _begin(carved_call: CarvedCall, anchors: Anchors, inputs: AttentionInput) -> AnchorStep:
    """The first attention call of a model call tells anchors its shape."""
    call, config, listener = carved_call.call, carved_call.anchored_config, carved_call.run.listener
    q = inputs.q
    shape = (
        carved_call.layout.grid,
        q.shape[0] // len(call.conditionings),
        q.shape[1:],
        q.dtype,
        config.text_logit_bias,
    )
    step = anchors.begin(call.conditionings, call.evaluation, shape, inputs.kv_mask)
    if step.step < 0:
        listener.note(NOT_RECURRING)
        _meet(NOT_RECURRING, config)
    if step.step == 1:  # after step 0 every layer has its place
        listener.note(anchors.describe())
        if anchors.num_without_place:
            _meet(anchors.describe(), config)
    return step
