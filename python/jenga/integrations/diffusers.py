"""Carving in a diffusers pipeline: `apply(pipeline)`, and everything is as it was after `remove()`.

Outside a denoising loop the transformer runs as if nothing were here; `Carving.run` starts a run by hand.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from ..carving.config import JengaConfig
from ..report.report import Report
from ..runtime.call import ModelCall
from ..runtime.carved_call import CarvedCall
from ..runtime.session import refuse
from ..runtime.settings import OUTSIDE_SCHEDULE, CarvingSettings
from . import diffusers_private as private
from .diffusers_attention import Backend, Current, Processors
from .diffusers_families import FAMILIES, Family, family_of
from .diffusers_parallel import RING_REMEDY, refuse_measuring_cache
from .diffusers_runs import DenoisingRun, Runs, Wrapped
from .ranks import check_same_latents, refuse_ring, shared_run
from .settings import chosen
from .xfuser import AttentionFunction, is_xfuser


def apply(pipeline, config_or_quality: str | JengaConfig | CarvingSettings = "balanced") -> "Carving":
    """Carve the self-attention of every transformer of the pipeline that Jenga knows, from its next run on.

    config_or_quality: a position of the quality dial (`jenga.runtime.qualities.QUALITIES`); a JengaConfig, which carves
    without anchors; or CarvingSettings. Raises ValueError for a pipeline without such a transformer, or with Jenga on
    it. The result may be a context manager: `with apply(pipeline): ...`.
    """
    return Carving(pipeline, chosen(config_or_quality, "apply"))


class Carving:
    """Jenga on one pipeline."""

    def __init__(self, pipeline, settings: CarvingSettings):
        transformers = _transformers(pipeline)
        self._runs = Runs(pipeline, self._is_compiled, self._around)
        self._patches: list[TransformerPatch] = []
        try:
            for one in transformers:
                self._patches.append(TransformerPatch(one, settings, self._runs))
        except Exception:
            self._runs.undo()
            self.remove()
            raise
        self._compile_anew()

    @property
    def report(self) -> Report | None:
        """What the last run did, or the one that lasts; None before the first."""
        return self._runs.last

    def run(self, steps: int):
        """Context manager: a run by hand, for a loop of one's own that calls the transformer and scheduler.step."""
        return self._runs.run(steps)

    def remove(self) -> None:
        """Take everything off the pipeline. A second time it does nothing."""
        for patch in self._patches:
            patch.undo()
        if self._patches:
            self._runs.undo()
            self._compile_anew()
        self._patches = []

    def __enter__(self) -> "Carving":
        return self

    def __exit__(self, *error) -> None:
        self.remove()

    def _is_compiled(self) -> bool:
        return any(patch.is_compiled() for patch in self._patches)

    def _compile_anew(self) -> None:
        # Compiled code has no guards on hooks: it would go on as it was traced.
        if self._is_compiled():
            torch.compiler.reset()

    @contextmanager
    def _around(self, run: DenoisingRun) -> Iterator[None]:
        """What a run needs besides counting."""
        for patch in self._patches:
            patch.number_layers(run)
        parallel = next((config for patch in self._patches if (config := patch.parallel_config())), None)
        refuse_ring(private.degrees(parallel)[1], RING_REMEDY)
        for patch in self._patches if parallel else ():
            patch.refuse_measuring_cache()
        with nullcontext() if parallel is None else shared_run(private.group_of(parallel), run.stage.run):
            yield


class TransformerPatch:
    """Jenga on one transformer: it makes a ModelCall of every call of it inside a run."""

    def __init__(self, transformer: torch.nn.Module, settings: CarvingSettings, runs: Runs):
        self._transformer, self._settings, self._runs = transformer, settings, runs
        self._family: Family = family_of(transformer)
        self._layers = list(self._family.layers(transformer))
        self._forward = inspect.signature(type(transformer).forward)
        self._current, self._name = Current(), None
        if is_xfuser(self._layers[0][0].processor):
            if self._family.joint:
                raise ValueError(
                    "apply: transformer must attend to the video alone under xfuser, got "
                    f"{type(transformer).__name__}: there the ranks' parts of its text lie between those of the video"
                )
            self._door = AttentionFunction(self._current, self._layers)
        elif self._family.dispatched:
            self._door = Backend(self._current, transformer, self._family)
        else:
            self._door = Processors(self._current, self._layers)
        begin, end = torch.compiler.disable(self._begin), torch.compiler.disable(self._end)
        self._hooks = (
            transformer.register_forward_pre_hook(begin, with_kwargs=True),
            transformer.register_forward_hook(end, always_call=True),
        )
        # One without step caches has no names for its calls: they are told apart by their number.
        named = hasattr(transformer, "cache_context")
        self._context = Wrapped(transformer, "cache_context", self._wrap_cache_context) if named else None

    def undo(self) -> None:
        if self._context is not None:
            self._context.undo()
        for hook in self._hooks:
            hook.remove()
        self._door.undo()

    def is_compiled(self) -> bool:
        return any(module._compiled_call_impl is not None for module in self._transformer.modules())

    def parallel_config(self):
        """The library's, where several ranks share the sequence."""
        configs = (getattr(module.processor, "_parallel_config", None) for module, _ in self._layers)
        return next((config for config in configs if private.degrees(config) != (1, 1)), None)

    def refuse_measuring_cache(self) -> None:
        """Where ranks share the sequence: they would decide apart."""
        refuse_measuring_cache(private.step_cache_of(self._transformer))

    def number_layers(self, run: DenoisingRun) -> None:
        """Blocks are numbered as the family lists them, whatever is called first."""
        for _, block in self._layers:
            run.stage.run.layer(block, 0)

    def _begin(self, module, args, kwargs) -> None:
        """Before every call of the transformer."""
        arguments = self._forward.bind_partial(module, *args, **kwargs).arguments
        run = self._runs.current
        layout = self._layout(run, module, arguments)
        num_tokens = (0, 0) if layout is None else (layout.grid.num_tokens, self._family.context(arguments))
        calls = ()
        hidden_states = arguments["hidden_states"]
        if run is not None:
            if parallel := self.parallel_config():
                group = private.group_of(parallel)
                run.stage.run.once("same latents", lambda: check_same_latents(hidden_states, group))
            run.begin_call(hidden_states.device, tuple(hidden_states.shape))
            if layout is not None:
                calls = self._carved_calls(run, layout, hidden_states.shape[0], arguments["timestep"])
            else:
                self._refuse(run, "this call does not say how many frames, rows and columns it has")
        self._current.begin(calls, num_tokens)

    def _layout(self, run: DenoisingRun | None, module, arguments):
        """Where the video lies in this call; None where it does not say, or where nobody needs what is slow to read."""
        if not self._family.read_from:
            return self._family.layout(module, arguments)
        if run is None:
            return None
        read = arguments[self._family.read_from]  # by the tensor itself: the key keeps it, so no other takes its place
        return run.stage.run.once(("layout", self, read), lambda: self._family.layout(module, arguments))

    def _carved_calls(self, run: DenoisingRun, layout, batch: int, timestep) -> tuple[CarvedCall, ...]:
        samples = range(batch) if self._family.each_sample else (None,)
        names = run.stage.run.number_passes(tuple((self._name, sample) for sample in samples))
        reason = self._outside_schedule(run)
        evaluation = run.stage.run.evaluation
        calls = (ModelCall((name,), evaluation, layout, timestep, run.steps) for name in names)
        return tuple(CarvedCall.begin(self, self._settings, run.stage, call, reason) for call in calls)

    def _outside_schedule(self, run: DenoisingRun) -> str:
        """The part of the schedule is counted in steps: the library's noise levels are shifted by then."""
        inside = self._settings.start_percent <= run.step / run.steps < self._settings.end_percent
        return "" if inside else OUTSIDE_SCHEDULE

    def _end(self, module, args, output) -> None:
        """After every call of the transformer, an interrupted one included."""
        calls, attended = self._current.calls, self._current.attended
        self._current.end()
        run = self._runs.current
        if run is None or output is None:
            return
        cache = private.step_cache_of(module)
        if cache:
            run.report.note(f"{cache} is on this transformer: a model call in which it skipped blocks counts as reused")
        elif calls and not attended:
            refuse(calls[0], "no self-attention came to Jenga; choose attention backends and processors before apply")
        for call in calls:
            call.name_missing_blocks()
        run.report.model_call(bool(cache) and attended < len(self._layers))

    def _refuse(self, run: DenoisingRun, reason: str) -> None:
        if self._settings.config.strict:
            raise RuntimeError(f"carving: strict must not meet a fallback, got {reason}")
        run.report.fallback(f"dense attention: {reason}")

    def _wrap_cache_context(self, cache_context):
        """The pipelines name what a call of the transformer is for: with the prompt, without it, and so on."""

        @contextmanager
        def wrapper(name, **kwargs):
            before, self._name = self._name, name
            try:
                with cache_context(name, **kwargs):
                    yield
            finally:
                self._name = before

        return wrapper


def _transformers(pipeline) -> list[torch.nn.Module]:
    """Those that Jenga knows; a compiled one is looked into."""
    modules = [getattr(one, "_orig_mod", one) for one in vars(pipeline).values() if isinstance(one, torch.nn.Module)]
    known = [one for one in modules if family_of(one) is not None]
    if not known:
        names = ", ".join(type(one).__name__ for one in modules)
        raise ValueError(f"apply: pipeline must have one of {', '.join(FAMILIES)}, got {names or 'no model'}")
    return known
