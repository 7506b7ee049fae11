"""Step reuse: on some steps the model is not called; the change it made last is applied again.

What is kept, per conditioning, is the derivative of the sampling path d = (x - denoised) / sigma, which for flow
models is the model's output; a reused call returns x - sigma * d. Dropped at every change of resolution.

A rule of `jenga.sampling.reuse_rules` says which steps are reused.
"""

from collections.abc import Callable, Hashable

import torch

from .reuse_rules import ReuseRule


class StepReuse:
    """State of one run. The sampler reports its steps. Until it has reported one, the step is found by its sigma, which
    has to be read from the device; so that stops as soon as it can.
    """

    def __init__(self, rule: ReuseRule):
        self._rule = rule
        self._sigmas: list[float] = []
        self._first = 0
        self._step: int | None = None  # of the stage, once the sampler has reported one
        self._reuse = False
        self._kept: dict[Hashable, torch.Tensor] = {}

    def enter_stage(self, sigmas: torch.Tensor, first_step: int) -> None:
        """The schedule of the stage that starts; its step 0 is `first_step` of the run."""
        self._sigmas, self._first, self._step = sigmas.tolist(), first_step, None
        self._forget()

    def report_step(self, step: int) -> None:
        """The sampler's prediction for that step of the stage is made: what it evaluates now belongs to the next."""
        self._step = step + 1

    def begin_evaluation(self, x: torch.Tensor, sigma: torch.Tensor) -> None:
        """Before every prediction of the sampler, for its latent x [B, ...] at sigma, a scalar."""
        step = self._step_of(float(sigma)) if self._step is None else self._step
        self._reuse = self._rule.reuses(self._first + max(0, min(step, len(self._sigmas) - 2)), x, sigma)

    def _step_of(self, sigma: float) -> int:
        """The step of the stage whose stretch of the schedule holds that sigma: right for samplers with several
        evaluations a step too.
        """
        return sum(s >= sigma * (1 - 1e-5) for s in self._sigmas[:-1]) - 1

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
            if not self._reuse:  # else what was kept is older than the rule believes
                self._rule.computed(key, self._kept[key] if self._fits(key, x, len(keys)) else None, part)
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
