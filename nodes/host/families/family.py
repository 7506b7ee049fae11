"""What the nodes know of one family of video models in ComfyUI. Every family is one file of this folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from jenga.carving.config import TokenGrid
from jenga.runtime.layout import TokenLayout

__all__ = [
    "CARRIED",
    "NOISED_ANEW",
    "Family",
    "PublishedReuse",
    "any_schedule",
    "num_text",
    "patch_of",
    "text_first",
    "text_last",
    "video_first",
]

# What becomes of the parts beside the video when a stage ends: see Family.other_parts.
NOISED_ANEW, CARRIED = "noised anew", "carried"


@dataclass(frozen=True)
class PublishedReuse:
    """Step reuse by published coefficients.

    coefficients: by name, for `jenga.sampling.reuse_rules.PublishedRule`. name(diffusion model, latent rows and
    columns): which of them are those of a model, None where it has none. signal(MODEL): the rule's signal.
    """

    coefficients: Mapping[str, tuple[float, ...]]
    name: Callable[[object, tuple[int, int]], str | None]
    signal: Callable[[object], Callable[[torch.Tensor, torch.device], torch.Tensor]]


def any_schedule(diffusion_model) -> str:
    """The schedules of a model that has no published ones."""
    return "any"


def one_patch(diffusion_model) -> None:
    """Sizes of whole patches will do."""


@dataclass(frozen=True)
class Family:
    """One family.

    title, models: in words, for people: its name, and which models of it are meant. classes: ComfyUI's classes of its
    diffusion models. tokens(diffusion model, grid, arguments of the model call by name): how they lie in a
    self-attention call; None leaves attention dense, and dense_reason says why. no_stages: why the Jenga node runs
    neither stages nor step reuse; empty where it does. schedule(diffusion model): the key of jenga.STAGES for it.
    reuse: published coefficients. other_parts: of a latent of several parts, what those beside the video do between two
    stages: NOISED_ANEW where they share the sampler's noise level, CARRIED where they have one of their own and go on
    as they were sampled; None where that is not known. sides(diffusion model): latent rows and columns that a size must
    be a multiple of, where that is more than a patch.

    The rest are conditions that ComfyUI does not resize with the latent. resized: a stage gets them at its own size;
    the value is the interpolation. resized_here: with models of this family alone, since others take what has that name
    at a size of its own. fixed: with one of these every step runs at full size.
    """

    title: str
    models: str
    classes: tuple[str, ...]
    tokens: Callable[[object, TokenGrid, Mapping[str, object]], TokenLayout] | None = None
    dense_reason: str = ""
    no_stages: str = ""
    schedule: Callable[[object], str] = any_schedule
    reuse: PublishedReuse | None = None
    other_parts: str | None = None
    sides: Callable[[object], tuple[int, int] | None] = one_patch
    resized: Mapping[str, str] = field(default_factory=dict)
    resized_here: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()

    def holds(self, diffusion_model) -> bool:
        """Whether a model is of this family. Image models share classes with video ones: their patches are 2-D."""
        patch = getattr(diffusion_model, "patch_size", None)
        flat = isinstance(patch, tuple | list) and len(patch) == 2
        return type(diffusion_model).__name__ in self.classes and not flat


def patch_of(diffusion_model) -> tuple[int, int, int] | None:
    """Latent frames, rows and columns in one patch, as a diffusion model tells them; None where it does not."""
    for owner in (diffusion_model, getattr(diffusion_model, "patchifier", None)):  # LTX has it in its patchifier
        patch = getattr(owner, "patch_size", None)
        if isinstance(patch, int):
            return getattr(owner, "patch_size_t", None) or 1, patch, patch
        if patch is not None:
            return (1, *patch)[-3:]
    spatial = getattr(diffusion_model, "patch_spatial", None)  # Cosmos
    return None if spatial is None else (getattr(diffusion_model, "patch_temporal", 1), spatial, spatial)


def num_text(arguments: Mapping[str, object]) -> int:
    """Text tokens of a model call, wherever they go."""
    context = arguments.get("c_crossattn")
    return context.shape[1] if isinstance(context, torch.Tensor) else 0


def video_first(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """Self-attention over the video, text by cross-attention: what else is in the sequence is behind the video."""
    return TokenLayout(grid)


def text_first(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """[text, other context, video]"""
    count = num_text(arguments)
    return TokenLayout(grid, None, (0, count), count)


def text_last(diffusion_model, grid: TokenGrid, arguments) -> TokenLayout:
    """[video, text]"""
    return TokenLayout(grid, text=(grid.num_tokens, None))
