"""Which transformers of diffusers Jenga knows: where their self-attention over the video is, and how its tokens lie.

By class name, so that nothing of diffusers is imported here. Shapes are those of the transformer's forward arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from ..carving.config import TokenGrid
from ..runtime.call import Block
from ..runtime.layout import TokenLayout, latent_grid


@dataclass(frozen=True)
class Family:
    """One family.

    stacks: (list of blocks, attention in a block, the block's type) in the order in which blocks are numbered.
    layout(transformer, arguments): how tokens lie in a model call, by the arguments' names; None where they do not say.
    joint: text and video are one sequence.
    dispatched: its processors call the library's dispatcher; otherwise they call torch's attention themselves.
    each_sample: they call it for one sample of the batch after the other, with that sample's text alone.
    square_mask: they make a mask [B, 1, S, S] out of one of the text tokens [B, text], which is the same for all keys.
    head_masks: masks of its cross-attention are repeated for all heads, which is wrong where ranks have some of them.
    read_from: the argument whose values, and not its shape, say how tokens lie: to read them waits for its device, so
    that it is done once a run for each such tensor. Empty where shapes say it.
    """

    stacks: tuple[tuple[str, str, str], ...]
    layout: Callable[[object, Mapping], TokenLayout | None]
    joint: bool = False
    dispatched: bool = True
    each_sample: bool = False
    square_mask: bool = False
    head_masks: bool = False
    read_from: str = ""

    def context(self, arguments: Mapping) -> int:
        """Tokens beside the video in the sequence, where it holds the text too."""
        return _num_text(arguments) if self.joint else 0

    def layers(self, transformer) -> Iterator[tuple[object, Block]]:
        """Every attention module over the video, and its block."""
        for blocks, attention, type_ in self.stacks:
            stack = getattr(transformer, blocks)
            for index, block in enumerate(stack):
                yield getattr(block, attention), Block(type_, index, len(stack))


def _patch(config) -> tuple[int, int, int]:
    if isinstance(config.patch_size, int):
        return (getattr(config, "patch_size_t", None) or 1, config.patch_size, config.patch_size)
    return tuple(config.patch_size)


def _video(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, C, T, H, W], and the sequence is the video alone."""
    return TokenLayout(latent_grid(_patch(transformer.config), arguments["hidden_states"].shape))


def _video_text(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, C, T, H, W]; the sequence is [video, text]."""
    grid = latent_grid(_patch(transformer.config), arguments["hidden_states"].shape)
    return TokenLayout(grid, text=(grid.num_tokens, None))


def _num_text(arguments: Mapping) -> int:
    """Text tokens, of one encoder or of two that follow each other."""
    texts = (arguments.get(name) for name in ("encoder_hidden_states", "encoder_hidden_states_t5"))
    return sum(text.shape[1] for text in texts if text is not None)


def _text_video(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, C, T, H, W]; the sequence is [text, video]."""
    grid, num_text = latent_grid(_patch(transformer.config), arguments["hidden_states"].shape), _num_text(arguments)
    return TokenLayout(grid, None, (0, num_text), num_text)


def _text_frames(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, T, C, H, W]; the sequence is [text, video]."""
    return _text_video(transformer, {**arguments, "hidden_states": arguments["hidden_states"].transpose(1, 2)})


def _channels_last(transformer, arguments: Mapping) -> TokenLayout:
    """hidden_states [B, T, H, W, C], and the sequence is the video alone."""
    return TokenLayout(latent_grid(_patch(transformer.config), arguments["hidden_states"].shape[:-1]))


def _patched(transformer, arguments: Mapping) -> TokenLayout | None:
    """hidden_states [B, S, C] in patches; num_frames, height and width are the latent's. Reference frames come last."""
    sizes = tuple(arguments.get(name) for name in ("num_frames", "height", "width"))
    if None in sizes:
        return None
    grid = TokenGrid(*(size // side for size, side in zip(sizes, _patch(transformer.config), strict=True)))
    return TokenLayout(grid)


def _packed(transformer, arguments: Mapping) -> TokenLayout | None:
    """position_ids [S, 3] are the (t, h, w) of all tokens. The video is what follows the last of text and audio;
    conditions, of any size, lie in front of it. None where that is no grid.
    """
    text, audio = arguments["text_indices"], arguments["audio_indices"]
    start = int(torch.cat([text, audio]).max()) + 1
    grid = grid_of_places(arguments["position_ids"][start:].cpu())
    if grid is None:
        return None
    return TokenLayout(grid, start, (0, len(text)) if int(text.max()) + 1 == len(text) else None)


def grid_of_places(places: torch.Tensor) -> TokenGrid | None:
    """The grid of tokens at (t, h, w) [S, 3], frame after frame and row after row; None where they are in no grid."""
    if not len(places):
        return None
    frames = len(places[:, 0].unique_consecutive())
    rows = max(1, len(places[:, :2].unique_consecutive(dim=0)) // frames)
    columns = len(places) // (frames * rows)
    if len(places) != frames * rows * columns:
        return None
    sides = places.reshape(frames, rows, columns, 3)
    axes = sides[:, 0, 0, 0], sides[0, :, 0, 1], sides[0, 0, :, 2]
    ascending = all(bool((axis.diff() > 0).all()) for axis in axes)
    in_order = torch.equal(sides, torch.stack(torch.meshgrid(*axes, indexing="ij"), -1))
    return TokenGrid(frames, rows, columns) if ascending and in_order else None


WAN = Family((("blocks", "attn1", ""),), _video)
LTX = Family((("transformer_blocks", "attn1", ""),), _patched, head_masks=True)
FAMILIES: Mapping[str, Family] = {
    "WanTransformer3DModel": WAN,
    "WanVACETransformer3DModel": Family((("blocks", "attn1", ""), ("vace_blocks", "attn1", "vace")), _video),
    "WanAnimateTransformer3DModel": WAN,
    "SkyReelsV2Transformer3DModel": WAN,
    "ChronoEditTransformer3DModel": WAN,
    "HunyuanVideoTransformer3DModel": Family(
        (("transformer_blocks", "attn", "double"), ("single_transformer_blocks", "attn", "single")),
        _video_text,
        joint=True,
    ),
    "HunyuanVideo15Transformer3DModel": Family(
        (("transformer_blocks", "attn", ""),), _video_text, joint=True, square_mask=True
    ),
    "LTXVideoTransformer3DModel": LTX,
    "LTX2VideoTransformer3DModel": LTX,
    "CogVideoXTransformer3DModel": Family(
        (("transformer_blocks", "attn1", ""),), _text_frames, joint=True, dispatched=False
    ),
    "EasyAnimateTransformer3DModel": Family(
        (("transformer_blocks", "attn1", ""),), _text_video, joint=True, dispatched=False
    ),
    # Its sparse models put other tokens next to each other: they come with a mask, and stay dense for it.
    "Kandinsky5Transformer3DModel": Family((("visual_transformer_blocks", "self_attention", ""),), _channels_last),
    "MotifVideoTransformer3DModel": Family(
        (("transformer_blocks", "attn", "double"), ("single_transformer_blocks", "attn", "single")),
        _video_text,
        joint=True,
    ),
    "AllegroTransformer3DModel": Family((("transformer_blocks", "attn1", ""),), _video, dispatched=False),
    "CosmosTransformer3DModel": Family((("transformer_blocks", "attn1", ""),), _video, dispatched=False),
    "MochiTransformer3DModel": Family(
        (("transformer_blocks", "attn1", ""),), _video_text, joint=True, dispatched=False, each_sample=True
    ),
    # Not joint: where ranks share its sequence they share all of it, and it comes back in order.
    "MiniMaxH3Transformer3DModel": Family((("transformer_blocks", "attn", ""),), _packed, read_from="position_ids"),
}


def family_of(transformer) -> Family | None:
    """The family of a module, by its class or one that it is made from; None for any other."""
    return next((FAMILIES[cls.__name__] for cls in type(transformer).__mro__ if cls.__name__ in FAMILIES), None)
