"""What the nodes know of one family of video models in ComfyUI. Every family is one file of this folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout, latent_grid

__all__ = ["Family", "PublishedReuse", "TokenFamily", "any_schedule", "patch_grid"]


@dataclass(frozen=True)
class TokenFamily:
    """How a family lays out its tokens. grid(diffusion_model, latent_shape) -> TokenGrid.

    text_first: the self-attention sequence is [text, video]; otherwise it is the video alone.
    """

    name: str
    grid: Callable[[object, tuple[int, ...]], TokenGrid]
    text_first: bool = False

    def layout(self, diffusion_model, latent_shape: tuple[int, ...], num_text: int) -> TokenLayout:
        """num_text: text tokens of the model call, wherever they go."""
        grid = self.grid(diffusion_model, latent_shape)
        return TokenLayout(grid, self.text_first, num_text if self.text_first else 0)


@dataclass(frozen=True)
class PublishedReuse:
    """Step reuse by published coefficients.

    coefficients: by name, for `jenga.sampling.reuse_rules.PublishedRule`. name(diffusion model, latent rows and
    columns): which of them are those of a model, None where it has none. signal(MODEL): the rule's signal.
    """

    coefficients: Mapping[str, tuple[float, ...]]
    name: Callable[[object, tuple[int, int]], str | None]
    signal: Callable[[object], Callable[[float, torch.device], torch.Tensor]]


def any_schedule(diffusion_model) -> str:
    """The schedules of a model that has no published ones."""
    return "any"


@dataclass(frozen=True)
class Family:
    """One family.

    title, models: in words, for people: its name, and which models of it are meant. classes: ComfyUI's classes of its
    diffusion models. tokens: how they lie in a self-attention call; None leaves attention dense. stages: whether the
    Jenga node runs stages and step reuse. schedule(diffusion model): the key of jenga.STAGES for it. reuse: published
    coefficients. packed_reason: of a latent of several parts, why they cannot be noised anew between two stages: empty
    where they can, None where that is not known.

    Conditions that ComfyUI does not resize with the latent. resized: a stage gets them at its own size; the value is
    the interpolation. fixed: with one of these every step runs at full size.
    """

    title: str
    models: str
    classes: tuple[str, ...]
    tokens: TokenFamily | None = None
    stages: bool = True
    schedule: Callable[[object], str] = any_schedule
    reuse: PublishedReuse | None = None
    packed_reason: str | None = None
    resized: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()

    def holds(self, diffusion_model) -> bool:
        """Whether a model is of this family. Image models share classes with carved video ones: theirs are 2-D."""
        if type(diffusion_model).__name__ not in self.classes:
            return False
        return self.tokens is None or len(getattr(diffusion_model, "patch_size", ())) == 3


def patch_grid(diffusion_model, latent_shape: tuple[int, ...]):
    """TokenGrid of a latent [..., T, H, W] for a model that tells its patch."""
    return latent_grid(tuple(diffusion_model.patch_size), latent_shape)
