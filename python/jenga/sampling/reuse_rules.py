"""When a step is reused: a list made before the run, or an estimate of how far the model's output has moved.

Both estimates are relative changes of the output, added up over predictions until they reach a threshold:
`PublishedRule` from the model's time embedding (TeaCache), `MeasuredRateRule` from the latent (ours, in the line of
EasyCache).
"""

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

import torch


class ReuseRule(Protocol):
    """Decides once for every prediction of the sampler; all conditionings of it are treated alike."""

    def enter_stage(self) -> None:
        """The latent has a new size: nothing from before can be compared or reused."""

    def reuses(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> bool:
        """Whether the prediction for latent x [B, ...] at a scalar sigma, in `step` of the run, may reuse the last."""

    def computed(self, key: Hashable, before: torch.Tensor | None, now: torch.Tensor) -> None:
        """The output of one conditioning, as it was kept and as it is computed now; None: nothing was kept."""


class StaticRule:
    """Computes the listed steps."""

    def __init__(self, computed: Iterable[int]):
        self._computed = frozenset(computed)

    def enter_stage(self) -> None:
        pass

    def reuses(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> bool:
        return step not in self._computed

    def computed(self, key: Hashable, before: torch.Tensor | None, now: torch.Tensor) -> None:
        pass


class PublishedRule:
    """Reuses while the sum of polynomial(d) stays below `threshold`; d: relative change of the signal from one
    prediction to the next.

    coefficients: of the polynomial, highest power first. signal(sigma, device): what the polynomial was fitted to, for
    Wan the projected time modulation. The first steps of the run, the first prediction of a stage and the last step are
    computed. Reads one number from the device a prediction. Source: TeaCache with retained steps, as in the published
    presets; that the last step is computed is ours.
    """

    RETAINED_STEPS = 5  # 10 calls of a run with guidance

    def __init__(
        self,
        coefficients: Iterable[float],
        signal: Callable[[torch.Tensor, torch.device], torch.Tensor],
        threshold: float,
        steps: int,
    ):
        self._coefficients, self._signal = tuple(coefficients), signal
        self._threshold, self._last_step = threshold, steps - 1
        self.enter_stage()

    def enter_stage(self) -> None:
        self._previous: torch.Tensor | None = None
        self._sum = 0.0

    def reuses(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> bool:
        previous, self._previous = self._previous, self._signal(sigma, x.device)
        if previous is not None:
            self._sum += self._polynomial(float((self._previous - previous).abs().mean() / previous.abs().mean()))
            if self.RETAINED_STEPS <= step < self._last_step and self._sum < self._threshold:
                return True
        self._sum = 0.0
        return False

    def computed(self, key: Hashable, before: torch.Tensor | None, now: torch.Tensor) -> None:
        pass

    def _polynomial(self, d: float) -> float:
        value = 0.0
        for coefficient in self._coefficients:
            value = value * d + coefficient
        return value


class MeasuredRateRule:
    """Reuses while the changes that are expected of the output, added up over the reused predictions, stay below
    `threshold`.

    Expected since it was last computed: what it changed by between the last two computed predictions (mean
    |difference| / mean |output|, the largest of all conditionings), times how far the latent has moved since, over how
    far it moved between those two. Every prediction adds the whole of it, since every reuse puts its own error into the
    latent. Computed in any case: two predictions of a stage, the first 15 % of the steps and the last one. Reads one
    number from the device a prediction.
    """

    FIRST_SHARE = 0.15  # the shapes of the clip are decided here

    def __init__(self, threshold: float, steps: int):
        self._threshold = threshold
        self._may_reuse = range(math.ceil(self.FIRST_SHARE * steps), steps - 1)
        self.enter_stage()

    def enter_stage(self) -> None:
        self._previous: torch.Tensor | None = None
        self._moved: torch.Tensor | float = 0.0  # since the last computed prediction
        self._moved_before: torch.Tensor | float = 0.0  # between the last two
        self._changes: dict[Hashable, torch.Tensor] = {}  # of the output, between the last two
        self._sum = 0.0

    def reuses(self, step: int, x: torch.Tensor, sigma: torch.Tensor) -> bool:
        previous, self._previous = self._previous, x.clone()  # samplers may go on in place
        if previous is not None:
            self._moved = self._moved + (x - previous).abs().mean()
        if self._changes and step in self._may_reuse:
            change = torch.stack([change.to(x.device) for change in self._changes.values()]).max()
            self._sum += float(change * self._moved / self._moved_before)
            if self._sum < self._threshold:
                return True
        self._moved_before, self._moved, self._sum = self._moved, 0.0, 0.0
        self._changes.clear()
        return False

    def computed(self, key: Hashable, before: torch.Tensor | None, now: torch.Tensor) -> None:
        if before is not None:
            self._changes[key] = (now - before).abs().mean() / before.abs().mean()
