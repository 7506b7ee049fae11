"""Runs of a diffusers pipeline: one denoising loop, with its evaluations and its report.

Every pipeline opens its progress bar around the loop, with the number of steps, and ends an evaluation with
`scheduler.step`; in a modular one the bar is that of a block. They are wrapped on the objects, and the wrappers are
taken off again.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from ..report.report import Report
from ..runtime.run import Run, StageState
from . import diffusers_private as private


class Wrapped:
    """A method of one object, replaced on the object alone. make(original) gives the replacement."""

    def __init__(self, owner, name: str, make: Callable[[Callable], Callable]):
        self._owner, self._name = owner, name
        self._before = vars(owner).get(name)
        self._wrapper = make(getattr(owner, name))
        setattr(owner, name, self._wrapper)

    def undo(self) -> None:
        """What was there before, unless somebody wrapped it again: then that one stays and goes on calling ours."""
        if vars(self._owner).get(self._name) is not self._wrapper:
            return
        if self._before is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)


class DenoisingRun:
    """One denoising loop of `steps` steps."""

    def __init__(self, steps: int, compiled: bool):
        self.report = Report()
        self.stage = StageState(Run(self.report, compiled))
        self.steps, self.step = steps, 0
        self._contexts, self._evaluation = ExitStack(), None

    def begin_call(self, device: torch.device, latent_shape: tuple[int, ...]) -> None:
        """Before every model call."""
        if not self.report.stages:
            self._contexts.enter_context(self.report.stage(1.0, latent_shape, self.steps))
        if self._evaluation is None:
            self.stage.run.begin_evaluation()
            self._evaluation = self._contexts.enter_context(ExitStack())
            self._evaluation.enter_context(self.report.evaluation(device))

    def end_evaluation(self) -> None:
        """The scheduler takes what the model calls since the last evaluation gave."""
        if self._evaluation is not None:
            self._evaluation.close()
            self._evaluation = None
        self.step += 1

    @contextmanager
    def lasting(self) -> Iterator[None]:
        try:
            with self._contexts:
                yield
        finally:
            self.stage.run.close()


class Runs:
    """The runs of one pipeline, one at a time.

    compiled() says whether the pipeline's transformers are; around(run) is a context manager for the whole of a run.
    Raises ValueError for a pipeline that has its runs watched already, or that opens no progress bar.
    """

    def __init__(self, pipeline, compiled: Callable[[], bool], around: Callable):
        loops = private.loops_of(pipeline)
        if not loops:
            raise ValueError(
                f"apply: pipeline must open a progress bar around its steps, got {type(pipeline).__name__} without one"
            )
        if any(hasattr(vars(loop).get("progress_bar"), "jenga") for loop in loops):
            raise ValueError("apply: pipeline must not have Jenga on it, got one that has; call its remove() first")
        self.current: DenoisingRun | None = None
        self.last: Report | None = None
        self._pipeline, self._compiled, self._around = pipeline, compiled, around
        self._bars = [Wrapped(loop, "progress_bar", self._wrap_progress_bar) for loop in loops]

    def undo(self) -> None:
        for bar in self._bars:
            bar.undo()

    @contextmanager
    def run(self, steps: int) -> Iterator[DenoisingRun]:
        """A run of so many steps around whatever calls the transformer and then pipeline.scheduler.step."""
        if self.current is not None:  # a loop inside a loop is part of it
            yield self.current
            return
        run = DenoisingRun(steps, self._compiled())
        self.current, self.last = run, run.report
        stepping = Wrapped(self._pipeline.scheduler, "step", lambda step: _ending(step, run))
        try:
            with run.lasting(), self._around(run):
                yield run
        finally:
            self.current = None
            stepping.undo()

    def _wrap_progress_bar(self, progress_bar: Callable) -> Callable:
        def wrapper(iterable=None, total=None):
            bar = progress_bar(iterable, total)
            return bar if total is None else self._running(bar, total)

        wrapper.jenga = True
        return wrapper

    @contextmanager
    def _running(self, bar, steps: int):
        with bar as entered, self.run(steps):
            yield entered


def _ending(step: Callable, run: DenoisingRun) -> Callable:
    def wrapper(*args, **kwargs):
        run.end_evaluation()
        return step(*args, **kwargs)

    return wrapper
