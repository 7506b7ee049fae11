"""Step reuse: on some steps the model is not called; the change it made last is applied again.

What is kept, per conditioning, is the derivative of the sampling path d = (x - denoised) / sigma, which for flow
models is the model's output; a reused call returns x - sigma * d. Dropped at every change of resolution.

A rule says which steps are reused: `StaticRule`, a list made before the run (paper), or `InputChangeRule`, from how far
the latent has moved (ours, in the line of TeaCache and EasyCache).
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

import torch


class ReuseRule(Protocol):
    """Decides once for every prediction of the sampler; all conditionings of it are treated alike."""

    def enter_stage(self) -> None:
        """The latent has a new size: nothing from before can be compared or reused."""

    def reuses(self, step: int, x: torch.Tensor) -> bool:
        """Whether the prediction for latent x [B, ...] at `step` of the run may reuse the last computed one."""


class StaticRule:
    """Computes the listed steps."""

    def __init__(self, computed: Iterable[int]):
        self._computed = frozenset(computed)

    def enter_stage(self) -> None:
        pass

    def reuses(self, step: int, x: torch.Tensor) -> bool:
        return step not in self._computed


class InputChangeRule:
    """Reuses while the latent has moved less than `threshold` since the last computed prediction.

    The way from one prediction's latent to the next is mean |x - previous| / mean |previous|; ways add up. The first
    prediction of a stage and the last step of the run are computed. Reads two numbers from the device a prediction.
    """

    def __init__(self, threshold: float, steps: int):
        self._threshold, self._last_step = threshold, steps - 1
        self._previous: torch.Tensor | None = None
        self._way = 0.0

    def enter_stage(self) -> None:
        self._previous, self._way = None, 0.0

    def reuses(self, step: int, x: torch.Tensor) -> bool:
        previous, self._previous = self._previous, x.clone()  # samplers may go on in place
        if previous is not None:
            self._way += float((x - previous).abs().mean() / previous.abs().mean())
        if previous is not None and step < self._last_step and self._way < self._threshold:
            return True
        self._way = 0.0
        return False


class StepReuse:
    """State of one run. A step is known by its sigma, so that samplers with several evaluations a step count right."""

    def __init__(self, rule: ReuseRule):
        self._rule = rule
        self._sigmas: list[float] = []
        self._first = 0
        self._reuse = False
        self._kept: dict[Hashable, torch.Tensor] = {}

    def enter_stage(self, sigmas: torch.Tensor, first_step: int) -> None:
        """The schedule of the stage that starts; its step 0 is `first_step` of the run."""
        self._sigmas, self._first = sigmas.tolist(), first_step
        self._forget()

    def begin_evaluation(self, x: torch.Tensor, sigma: float) -> None:
        """Before every prediction of the sampler, for its latent x [B, ...] at sigma."""
        step = sum(s >= sigma * (1 - 1e-5) for s in self._sigmas[:-1]) - 1
        self._reuse = self._rule.reuses(self._first + max(step, 0), x)

    def model_call(
        self, x: torch.Tensor, sigma: torch.Tensor, keys: list[Hashable], compute: Callable[[], torch.Tensor]
    ) -> tuple[torch.Tensor, bool]:
        """The denoised latent for x [B, ...] at sigma [B], and whether it was reused.

        keys: one for each equal part of the batch. compute(): the real call.
        """
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        if self._reuse and all(self._fits(key, x, len(keys)) for key in keys):
            return x - sigma * torch.cat([self._kept[key] for key in keys]), True
        denoised = compute()
        for key, part in zip(keys, ((x - denoised) / sigma).chunk(len(keys)), strict=True):
            self._kept[key] = part
        return denoised, False

    def close(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._kept.clear()
        self._rule.enter_stage()

    def _fits(self, key: Hashable, x: torch.Tensor, parts: int) -> bool:
        kept = self._kept.get(key)
        return kept is not None and kept.device == x.device and kept.shape == (x.shape[0] // parts, *x.shape[1:])
