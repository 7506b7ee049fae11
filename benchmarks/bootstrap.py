"""Confidence intervals by the bootstrap: the prompts of a run are drawn again, with replacement, many times."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

REPEATS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float

    def apart_from(self, other: "Estimate") -> bool:
        """Whether the two intervals have nothing in common."""
        return self.low > other.high or self.high < other.low

    def text(self, digits: int) -> str:
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def estimate(statistic: Callable[[torch.Tensor], float], count: int, *, biased: bool = False) -> Estimate:
    """statistic(rows) of all `count` prompts, and of REPEATS drawings of as many; rows: int64 indices.

    The interval is the middle CONFIDENCE of the drawings, the percentile interval. biased: moved by how far their mean
    lies from the value, since a drawing has prompts twice, so that a distance between sets (Fréchet's) comes out larger
    in it than it is (Efron and Tibshirani, 1993, chapters 10 and 13).
    """
    generator = torch.Generator().manual_seed(0)
    value = statistic(torch.arange(count))
    drawn = (statistic(torch.randint(count, (count,), generator=generator)) for _ in range(REPEATS))
    values = torch.tensor(list(drawn), dtype=torch.float64)
    tail = (1 - CONFIDENCE) / 2
    ends = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64))
    low, high = ends + (value - values.mean() if biased else 0)
    return Estimate(value, float(low), float(high))


def mean(values: torch.Tensor) -> Estimate:
    """Of one number for each prompt, [N]."""
    values = values.double()
    return estimate(lambda rows: float(values[rows].mean()), len(values))
