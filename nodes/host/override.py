"""Carving inside ComfyUI: the attention override, and the wrapper around every model call.

`AttentionPatch` keeps no state of a run. What it needs travels in ComfyUI's options: the run's StageState, written by
whoever started the run, and for one model call its ModelCall and its CarvedCall.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from jenga.runtime.call import Layer, ModelCall
from jenga.runtime.carved_call import NO_ATTENTION, CarvedCall
from jenga.runtime.run import Run, StageState
from jenga.runtime.session import attend, fall_back
from jenga.runtime.settings import CarvingSettings

from . import private, private_options
from .model_call import Arguments, model_call, search_of, stage_of, video_of

CARVED_KEY = "jenga"  # transformer_options of one model call: its CarvedCall; and the key of our wrappers
EXACT = 0.1  # relative error up to which an override counts as exact: 8-bit kernels do, sparse ones do not
FULLGRAPH = (
    "Jenga Attention: the model must be compiled without fullgraph, got fullgraph=True; turn fullgraph off in the node "
    "that compiles: what Jenga reads at every step cannot be part of compiled code"
)
HIDDEN = "another node's attention override sits behind Jenga and takes the calls: put Jenga behind that node"
ATTENTION_ARGUMENTS = ("heads", "mask", "attn_precision", "skip_reshape", "skip_output_reshape")


class AttentionPatch:
    """One Jenga Attention on one model: its settings, and the override that it replaced."""

    def __init__(self, settings: CarvingSettings, previous: Callable | None = None):
        self.settings, self.previous = settings, previous
        # Compiled code would freeze what the override reads from the options at its first value.
        self.override = torch.compiler.disable(self._override)
        self.override.jenga_patch = self

    @staticmethod
    def of(patcher) -> "AttentionPatch | None":
        """The patch on a MODEL, which an override of another node may hide."""
        wrappers = private.wrappers_of(patcher, private.APPLY_MODEL, CARVED_KEY)
        return wrappers[0].__self__ if wrappers else None

    def apply_model(self, executor, *args, **kwargs):
        """Wrapper of one model call: writes the CarvedCall that the override reads. Outside a run nothing is carved."""
        model = executor.class_obj
        arguments = Arguments.bind(model, args, kwargs)
        stage = stage_of(arguments.options)
        if stage is None:
            if self.settings.config.strict:
                raise RuntimeError(
                    "Jenga Attention: strict must not meet a fallback, got a model call outside a sampler run"
                )
            return executor(*args, **kwargs)
        if self.previous is not None and arguments.options.get(private_options.OVERRIDE) is self.previous:
            arguments.options[private_options.OVERRIDE] = self.override  # some put themselves back at every step
        call = model_call(model, stage.run, arguments)
        # The first call of a size shows whether the model's attention comes by here. Of a size and not of a batch: as
        # the memory is, a batch may be seen first on a step that is not computed.
        first = stage.run.once((self, video_of(arguments.values)[0][1:]), lambda: call) is call
        carved, out = self._called(executor, model, stage, call, arguments)
        if first and not carved.attended and stage.run.compiled:
            # ComfyUI compiles without guards on its options, so what ran was compiled in a run without the override.
            torch.compiler.reset()
            stage.run.listener.note("compiled anew: the model had been compiled without Jenga")
            carved, out = self._called(executor, model, stage, call, arguments)
        if first and not carved.attended:
            self._say_unseen(stage.run, arguments.options, carved.unseen)
        if first:
            carved.name_missing_blocks()
        return out

    def check_seen(self, run: Run, options: dict) -> None:
        """After a prediction: a run in which no attention came by here says so."""
        if not run.attended:
            self._say_unseen(run, options, NO_ATTENTION)

    def _called(self, executor, model, stage: StageState, call: ModelCall, arguments: Arguments):
        """The CarvedCall of a model call and what the call returned. Out of memory while anchors hold some of the
        device's: they leave it, and the call is made once more.
        """
        for again in (False, True):
            outside = self.settings.outside_schedule(
                call.sigma, lambda part: model.model_sampling.percent_to_sigma(part)
            )
            search = search_of(model, call, arguments)
            carved = CarvedCall.begin(self, self.settings, stage, call, outside, search)
            carved.own_dense = self.previous is None
            carved.own_exact = carved.own_dense and not private.special_attention_chosen()
            carved.occupied = private_options.occupied_devices(arguments.options)
            arguments.options[CARVED_KEY] = carved
            try:
                return carved, arguments.call(executor)
            except torch.OutOfMemoryError:
                if again or not stage.run.free_device(arguments.values["x"].device):
                    raise
            except RuntimeError as error:
                if "AttentionPatch._override" not in str(error) or type(error).__name__ != "Unsupported":
                    raise
                raise RuntimeError(FULLGRAPH) from error
            fall_back(stage.run, self.settings, "out of memory: anchors left the device, the model call was repeated")
            private.free_memory()

    def _say_unseen(self, run: Run, options: dict, reason: str) -> None:
        """Once a run. reason: where no other override has taken our place."""
        if options.get(private_options.OVERRIDE) is not self.override:
            reason = HIDDEN
        run.once((self, "unseen"), lambda: fall_back(run, self.settings, f"dense attention: {reason}"))

    def _override(self, func, q, k, v, *args, **kwargs):
        """Replaces the host's attention function `func` for one call; same arguments and result layout."""
        options = kwargs.get("transformer_options") or {}
        carved = options.get(CARVED_KEY)
        # Another Jenga node further on owns this model call: only the last one carves.
        if carved is None or carved.owner is not self:
            return self._dense(func, q, k, v, *args, **kwargs)
        call = AttentionCall.read(q, k, v, args, kwargs)
        if carved.layout is not None and carved.layout.splits(call.q.shape[2], call.k.shape[2]):
            call = call.with_all_queries()
        if call.cross:
            return self._dense(func, q, k, v, *args, **kwargs)

        def dense() -> torch.Tensor:
            return call.heads_first(self._dense(func, q, k, v, *args, **kwargs))

        def exact(layer: Layer) -> torch.Tensor:
            def host() -> torch.Tensor:
                return call.heads_first(func(q, k, v, *args, **kwargs))

            return host() if self.previous is None else self._exact(carved.run, layer, dense, host)

        def of_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            return func(q, k, v, **call.arguments_of_heads(q.shape[1], mask))

        block = private_options.block_of(options)
        with private.lasting_memory():  # anchors, lists and tables are kept for later steps
            if carved.search is not None:
                carved.find_layout(call.v, private_options.patches_of(options, carved.search.latent.shape))
            shares = None if call.is_padded else of_heads
            out = attend(carved, block, call.q, call.k, call.v, call.mask, call.scale, dense, exact, shares)
        return self._dense(func, q, k, v, *args, **kwargs) if out is None else call.output(out)

    def _exact(self, run: Run, layer: Layer, before: Callable, host: Callable) -> torch.Tensor:
        """Attention for an anchor: that of the override before ours, unless it was found inexact, then ComfyUI's own.
        Sparse overrides leave the first layers and steps dense, so the two are compared in every octave of either.
        """
        errors: dict[tuple[int, int], float] = run.once((self, "errors of the override before"), dict)
        if max(errors.values(), default=0.0) > EXACT:
            return host()
        out, octave = before(), (layer.index.bit_length(), run.evaluation.bit_length())
        if octave in errors:
            return out
        exact = host()
        off = errors[octave] = float((out.float() - exact.float()).norm() / exact.float().norm())
        if off > EXACT:
            words = f"the attention override before Jenga is not exact ({off:.0%} off)"
            run.listener.note(f"{words}: anchors take ComfyUI's own attention")
            return exact
        return out

    def _dense(self, func, *args, **kwargs):
        return func(*args, **kwargs) if self.previous is None else self.previous(func, *args, **kwargs)


@dataclass(frozen=True)
class AttentionCall:
    """The host's attention call as q k v [B, H, S, D] and how it wants its output.

    arguments: all others of the call, by name.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    scale: float | None
    keep_heads: bool
    cross: bool
    arguments: dict
    queries: int  # of the host

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
        return cls(q, k, v, given.get("mask"), given.get("scale"), keep_heads, cross, given, q.shape[2])

    def arguments_of_heads(self, heads: int, mask: torch.Tensor | None) -> dict:
        """Of the host's function for some of the heads, [B, H, S, D] in and out. Grouped ones are repeated by then."""
        named = {**self.arguments, "heads": heads, "mask": mask, "skip_reshape": True, "skip_output_reshape": True}
        named.pop("enable_gqa", None)
        return named

    @property
    def is_padded(self) -> bool:
        """Whether there are more queries than the host's, so that the host cannot be asked for them."""
        return self.q.shape[2] != self.queries

    def with_all_queries(self) -> "AttentionCall":
        """A call of the video's queries alone as one of as many queries as keys: those behind them, which nobody asked
        for, are keys again. Its mask weighs the context, which the layout says too.
        """
        q = torch.cat([self.q, self.k[:, :, self.queries :]], 2)
        return replace(self, q=q, mask=None, cross=False)

    def output(self, out: torch.Tensor) -> torch.Tensor:
        """[B, H, S, D] -> the layout the host asked for."""
        out = out[:, :, : self.queries]
        return out if self.keep_heads else out.transpose(1, 2).flatten(2)

    def heads_first(self, out: torch.Tensor) -> torch.Tensor:
        """The layout the host asked for -> [B, H, S, D]."""
        return out if self.keep_heads else out.unflatten(2, (self.q.shape[1], -1)).transpose(1, 2)
