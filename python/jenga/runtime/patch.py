"""Carving inside a host model: the attention override, and the state of one run.

A host (nodes/) installs `AttentionPatch.override` as its attention function, `AttentionPatch.apply_model` around every
model call, and starts a `Run` for every execution of a sampler. The override carves the self-attention of the video
tokens and hands everything else to the attention function that was there before. It keeps no state: what it needs
travels in the host's options dict, as `options["jenga_stage"]` (written by the one who started the run) and
`options["jenga"]` (written by `apply_model` for one model call).
"""

import math
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from ..carving.attention import DENSE, CarvedAttention, CarvedResult
from ..carving.config import AnchorConfig, JengaConfig, TokenGrid
from ..report.measure import Stopwatch
from ..report.report import Report
from .anchors import ANCHOR, AnchoredAttention, ModelCall

STAGE_KEY = "jenga_stage"
FORWARD_KEY = "jenga"
ATTENTION_ARGUMENTS = ("heads", "mask", "attn_precision", "skip_reshape", "skip_output_reshape")


@dataclass(frozen=True)
class CarvingSettings:
    """What a user chose. anchors: for long sampler calls first, none for carving alone; with anchors their kept share
    counts in every stage, and not the stage's own, which was made for carving alone. dense_layers: layer indices that
    stay dense. start_percent and end_percent: the part of the noise schedule that is carved, 0 = all noise. min_tokens:
    fewer video tokens than this stay dense.
    """

    config: JengaConfig
    anchors: tuple[AnchorConfig, ...] = ()
    dense_layers: frozenset[int] = frozenset()
    start_percent: float = 0.0
    end_percent: float = 1.0
    min_tokens: int = 4096


@dataclass(frozen=True)
class Quality:
    """Kept share without anchors, and the anchors, for long sampler calls first. Without anchors, which is what calls
    too short for all of them and layers without room get, the share is the one of about the same work.
    """

    density: float
    anchors: tuple[AnchorConfig, ...]


def anchors_for(anchors: tuple[AnchorConfig, ...], steps: float) -> AnchorConfig | None:
    """The first that a sampler call of so many steps is long enough for; None where there is none."""
    return next((one for one in anchors if steps >= one.min_steps), None)


# Measured by benchmarks/closed_loop.py: few steps have room for one dense step, the first. With balanced it would be
# more than half the work of five steps.
QUALITIES = {
    "fast": Quality(0.1, ()),
    "balanced": Quality(0.2, (AnchorConfig(8, density=0.05, min_steps=12), AnchorConfig(0, density=0.05, min_steps=6))),
    "high": Quality(0.3, (AnchorConfig(8, density=0.1, min_steps=12), AnchorConfig(0, density=0.1, min_steps=4))),
    "near-lossless": Quality(
        0.4, (AnchorConfig(4, density=0.1, min_steps=8), AnchorConfig(0, density=0.2, min_steps=4))
    ),
}


@dataclass(frozen=True)
class Family:
    """How a model lays out its tokens. grid(diffusion_model, latent_shape) -> TokenGrid.

    text_first: the self-attention sequence is [text, video]; otherwise it is the video alone.
    """

    name: str
    grid: Callable[[object, tuple[int, ...]], TokenGrid]
    text_first: bool = False


class Run:
    """Plans and report of one execution of a sampler. Whoever starts it closes it.

    compiled: the host runs the model through torch.compile.
    """

    def __init__(self, compiled: bool = False):
        self.report = Report()
        self.compiled = compiled
        self._called: set[TokenGrid] = set()
        self._carved: dict[tuple, CarvedAttention] = {}
        self._anchored: dict[tuple, AnchoredAttention] = {}

    def carved(self, config: JengaConfig, device: torch.device) -> CarvedAttention:
        """One CarvedAttention per configuration and device, so that devices share nothing."""
        key = (config, device)
        if key not in self._carved:
            self._carved[key] = CarvedAttention(config)
        return self._carved[key]

    def anchored(self, patch: "AttentionPatch", anchors: AnchorConfig, device: torch.device) -> AnchoredAttention:
        """One AnchoredAttention per patched model, configuration and device."""
        key = (patch, anchors, device)
        if key not in self._anchored:
            self._anchored[key] = AnchoredAttention(anchors, device)
        return self._anchored[key]

    def first_call(self, grid: TokenGrid) -> bool:
        """Whether no model call of this size has been looked at."""
        first = grid not in self._called
        self._called.add(grid)
        return first

    def drop_anchors(self) -> None:
        """For the owner of the stages: the latent was noised anew, what anchors kept does not fit it any more."""
        for anchored in self._anchored.values():
            anchored.drop()

    def close(self) -> None:
        self._carved.clear()
        for anchored in self._anchored.values():
            anchored.close()
        self._anchored.clear()
        self.report.close()


@dataclass
class StageState:
    """Where a run stands. One object for the run, changed by its owner only; the host's option copies share it.

    density: overrides the configuration's where carving has no anchors, None leaves it. text_logit_bias: for the text
    columns of joint attention.
    """

    run: Run
    stage_index: int = 0
    scale: float = 1.0
    density: float | None = None
    text_logit_bias: float = 0.0


@dataclass
class Forward:
    """State of one model call."""

    patch: "AttentionPatch"
    run: Run
    grid: TokenGrid
    config: JengaConfig
    anchors: AnchorConfig | None  # None: this call has none
    anchored_config: JengaConfig | None  # of the carving between them
    text_tokens: int  # least number of tokens before the video
    text_first: bool
    conditionings: tuple[Hashable, ...]  # one for each equal part of the batch
    dense_reason: str = ""  # why the settings want this whole call dense
    layers: int = 0
    call: ModelCall | None = None  # set by the first attention call, where carving has anchors
    masks: list[tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=list)


class AttentionPatch:
    """One Jenga Attention on one model: settings, the family's layout, and the override it replaced."""

    def __init__(self, settings: CarvingSettings, family: Family, previous: Callable | None = None):
        self.settings, self.family, self.previous = settings, family, previous
        # Compiled code would freeze what the override reads from the options at its first value.
        self.override = torch.compiler.disable(self._override)
        self.override.jenga_patch = self

    def apply_model(self, executor, *args, **kwargs):
        """Wrapper of one model call: writes the Forward that the override reads. Outside a run nothing is carved."""
        args, kwargs, options = own_options(args, kwargs)
        stage = options.get(STAGE_KEY)
        if stage is None:
            return executor(*args, **kwargs)
        forward = self._forward(executor.class_obj, stage, options, args, kwargs)
        options[FORWARD_KEY] = forward
        out = executor(*args, **kwargs)
        if not forward.run.first_call(forward.grid) or forward.layers:
            return out
        if forward.run.compiled:
            # The host compiles without guards on its options: this was code of a run without the override.
            torch.compiler.reset()
            forward.run.report.note("compiled anew: the model had been compiled without Jenga")
            out = executor(*args, **kwargs)
        if not forward.layers:
            self._refuse(forward.run.report, "the model made no self-attention call that Jenga can see")
        return out

    def _forward(self, model, stage: StageState, options: dict, args: tuple, kwargs: dict) -> Forward:
        shapes = kwargs.get("latent_shapes")
        grid = self.family.grid(model.diffusion_model, tuple(shapes[0] if shapes else args[0].shape))
        chosen = self.settings.config
        chosen = replace(chosen, text_logit_bias=chosen.text_logit_bias + stage.text_logit_bias)
        config = chosen if stage.density is None else replace(chosen, density=stage.density)
        anchors, anchored_config = self._anchors(options, stage.run.report), None
        if anchors is not None:
            anchored_config = chosen if anchors.density is None else replace(chosen, density=anchors.density)
        context = kwargs.get("c_crossattn", args[3] if len(args) > 3 else None)
        text_tokens = context.shape[1] if self.family.text_first and context is not None else 0
        reason = self._dense_reason(model, options, grid.num_tokens)
        return Forward(
            self,
            stage.run,
            grid,
            config,
            anchors,
            anchored_config,
            text_tokens,
            self.family.text_first,
            _conditionings(model, options),
            reason,
        )

    def _anchors(self, options: dict, report: Report) -> AnchorConfig | None:
        """The anchors of this sampler call, by its steps; a host that does not tell them gets those of long ones."""
        configured, sigmas = self.settings.anchors, options.get("sample_sigmas")
        steps = math.inf if sigmas is None else len(sigmas) - 1
        found = anchors_for(configured, steps)
        if configured and found is None:
            report.note(f"no anchors: {steps} steps at this size, anchors take {configured[-1].min_steps}")
        return found

    def _dense_reason(self, model, options: dict, num_video: int) -> str:
        settings = self.settings
        if num_video < settings.min_tokens:
            return f"{num_video} video tokens, min_tokens is {settings.min_tokens}"
        if settings.start_percent > 0 or settings.end_percent < 1:
            sigma = float(options["sigmas"].flatten()[0])  # one host sync a model call, only where it is needed
            to_sigma = model.model_sampling.percent_to_sigma
            if not to_sigma(settings.end_percent) < sigma <= to_sigma(settings.start_percent):
                return "outside start_percent .. end_percent"
        return ""

    def _override(self, func, q, k, v, *args, **kwargs):
        """Replaces the host's attention function `func` for one call; same arguments and result layout."""
        forward = (kwargs.get("transformer_options") or {}).get(FORWARD_KEY)
        # Another Jenga node further on owns this model call: only the last one carves.
        if forward is None or forward.patch is not self:
            return self._dense(func, q, k, v, *args, **kwargs)
        call = AttentionCall.read(q, k, v, args, kwargs)
        before_video = call.tokens - forward.grid.num_tokens
        if call.cross or before_video < forward.text_tokens:
            return self._dense(func, q, k, v, *args, **kwargs)
        layer_index = forward.layers
        forward.layers += 1
        dense = partial(self._dense, func, q, k, v, *args, **kwargs)
        out = self._carve(forward, call, layer_index, before_video, dense)
        if out is None:
            watch = Stopwatch(call.q.device)
            out = dense()
            forward.run.report.attention(layer_index, 1.0, DENSE, watch.stop())
        return out

    def _dense(self, func, *args, **kwargs):
        return func(*args, **kwargs) if self.previous is None else self.previous(func, *args, **kwargs)

    def _carve(self, forward: Forward, call: "AttentionCall", layer_index: int, before_video: int, dense: Callable):
        """The carved output in the host's layout; None where the call must stay dense, with the reason reported."""
        report = forward.run.report
        if forward.dense_reason or layer_index in self.settings.dense_layers:
            report.choice(forward.dense_reason or "dense_blocks")
            return None
        if before_video and not forward.text_first:
            return self._refuse(report, f"{before_video} tokens beside the video, {self.family.name} has none")
        kv_mask, readable = _key_mask(forward, call)
        if not readable:
            return self._refuse(report, "an attention mask that is not one of padded keys")
        arguments = {
            "video_start": before_video,
            "text_range": (0, before_video) if before_video else None,
            "kv_mask": kv_mask,
            "softmax_scale": call.scale,
        }
        watch = Stopwatch(call.q.device)
        try:
            if forward.anchors is None:
                carved = forward.run.carved(forward.config, call.q.device)
                result = carved(call.q, call.k, call.v, forward.grid, **arguments)
            else:
                result = self._anchored(forward, call, layer_index, dense, arguments)
            watch.stop()
            if result.lists is not None and result.backend != ANCHOR:
                report.keep_blocks(layer_index, result.lists, forward.grid, forward.config)
        except torch.OutOfMemoryError:
            forward.run.drop_anchors()
            return self._refuse(report, "out of memory")
        if result.backend == ANCHOR:
            report.choice("anchor step")
        report.attention(layer_index, result.kept_share, result.backend, watch)
        if result.reason:
            report.fallback(result.reason)
        return call.output(result.out)

    def _anchored(
        self, forward: Forward, call: "AttentionCall", layer_index: int, dense: Callable, arguments: dict
    ) -> CarvedResult:
        run, config, device = forward.run, forward.anchored_config, call.q.device
        anchored = run.anchored(self, forward.anchors, device)
        if forward.call is None:
            batch = call.q.shape[0] // len(forward.conditionings)
            shape = (forward.grid, batch, call.q.shape[1:], call.q.dtype, config.text_logit_bias)
            forward.call = anchored.begin(
                forward.conditionings, len(run.report.evaluations), shape, arguments["kv_mask"]
            )
            if forward.call.step == 1:  # after step 0 every layer has its place
                run.report.note(anchored.describe())
                if anchored.num_without_place and config.strict:
                    raise RuntimeError(f"Jenga Attention: strict must not meet a fallback, got {anchored.describe()}")

        def exact() -> torch.Tensor:
            if not config.text_logit_bias or arguments["text_range"] is None:
                return call.heads_first(dense())
            # The host's own attention knows nothing of the amplifier.
            everything = run.carved(replace(config, density=1.0), device)
            return everything(call.q, call.k, call.v, forward.grid, **arguments).out

        return anchored(
            forward.call,
            layer_index,
            run.carved(config, device),
            run.carved(forward.config, device),
            call.q,
            call.k,
            call.v,
            forward.grid,
            exact,
            **arguments,
        )

    def _refuse(self, report: Report, reason: str) -> None:
        if self.settings.config.strict:
            raise RuntimeError(f"Jenga Attention: strict must not meet a fallback, got {reason}")
        report.fallback(f"dense attention: {reason}")


@dataclass(frozen=True)
class AttentionCall:
    """The host's attention call as q k v [B, H, S, D] and how it wants its output."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    scale: float | None
    keep_heads: bool
    cross: bool

    @classmethod
    def read(cls, q, k, v, args: tuple, kwargs: dict) -> "AttentionCall":
        """From the host's arguments: [B, S, H*D], or [B, H, S, D] with skip_reshape; heads in any position."""
        given = {**dict(zip(ATTENTION_ARGUMENTS, args, strict=False)), **kwargs}
        if not given.get("skip_reshape"):
            head_dim = q.shape[-1] // given["heads"]
            q, k, v = (x.unflatten(-1, (-1, head_dim)).transpose(1, 2) for x in (q, k, v))
        cross = q.shape[2] != k.shape[2]
        if given.get("enable_gqa") and not cross and q.shape[1] != k.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        keep_heads = bool(given.get("skip_output_reshape"))
        return cls(q, k, v, given.get("mask"), given.get("scale"), keep_heads, cross)

    @property
    def tokens(self) -> int:
        return self.q.shape[2]

    def output(self, out: torch.Tensor) -> torch.Tensor:
        """[B, H, S, D] -> the layout the host asked for."""
        return out if self.keep_heads else out.transpose(1, 2).flatten(2)

    def heads_first(self, out: torch.Tensor) -> torch.Tensor:
        """The layout the host asked for -> [B, H, S, D]."""
        return out if self.keep_heads else out.unflatten(2, (self.q.shape[1], -1)).transpose(1, 2)


def own_options(args: tuple, kwargs: dict) -> tuple[tuple, dict, dict]:
    """The arguments of a model call with a shallow copy of its options dict, and that copy, free to write."""
    if "transformer_options" in kwargs:
        options = dict(kwargs["transformer_options"])
        return args, {**kwargs, "transformer_options": options}, options
    position = next(i for i, x in enumerate(args) if isinstance(x, dict))
    options = dict(args[position])
    return (*args[:position], options, *args[position + 1 :]), kwargs, options


def parse_layers(text: str) -> frozenset[int]:
    """Layer indices of "0, 1, 38-39"; none of blank text. Raises ValueError that names the part it cannot read, which
    includes a range that runs backwards or has no end.
    """
    layers: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        ends = re.fullmatch(r"([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?", part)
        found = ends and range(int(ends[1]), int(ends[2] or ends[1]) + 1)
        if not found:
            raise ValueError(f"Jenga Attention: dense_blocks must be like '0, 1, 38-39', got {part!r}")
        layers.update(found)
    return frozenset(layers)


def latent_grid(patch: tuple[int, int, int], latent_shape: tuple[int, ...]) -> TokenGrid:
    """Tokens of a latent [..., T, H, W] cut in patches; a ragged edge is padded to a whole patch."""
    return TokenGrid(*(math.ceil(size / side) for size, side in zip(latent_shape[-3:], patch, strict=True)))


def _conditionings(model, options: dict) -> tuple[Hashable, ...]:
    """What tells the parts of a batch apart: the host's conditioning, the frames of a context window, and the strengths
    of weight hooks, which may follow a schedule. One entry for each equal part, no two alike.
    """
    window = options.get("context_window")
    frames = None if window is None else tuple(window.index_list)
    hooks = getattr(getattr(model, "current_patcher", None), "current_hooks", None)
    weights = None if hooks is None else tuple((id(hook.hook_ref), hook.strength) for hook in hooks.hooks)
    parts = list(options.get("uuids") or options["cond_or_uncond"])
    return tuple((part, parts[:index].count(part), frames, weights) for index, part in enumerate(parts))


def _key_mask(forward: Forward, call: AttentionCall) -> tuple[torch.Tensor | None, bool]:
    """bool [B, S] of the keys a mask allows (None: all), and whether the mask says just that.

    Read once a model call: the layers get the same tensor object.
    """
    if call.mask is None:
        return None, True
    for mask, kv_mask in forward.masks:
        if mask is call.mask:
            return kv_mask, kv_mask is not None
    kv_mask = _padding_mask(call.mask, call.q.shape[0], call.tokens)
    forward.masks.append((call.mask, kv_mask))
    return kv_mask, kv_mask is not None


def _padding_mask(mask: torch.Tensor, batch: int, tokens: int) -> torch.Tensor | None:
    if mask.shape[-1] != tokens or mask.numel() not in (tokens, batch * tokens):
        return None
    rows = mask.reshape(-1, tokens)
    if rows.dtype != torch.bool:
        allowed = rows == 0
        if not bool((allowed | (rows <= torch.finfo(rows.dtype).min / 2)).all()):
            return None
        rows = allowed
    return rows.expand(batch, tokens)
