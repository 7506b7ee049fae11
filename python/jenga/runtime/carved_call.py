"""State of one model call whose attention is carved: what was decided for it before its first attention call."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from ..carving.config import AnchorConfig, JengaConfig
from .anchors import AnchorStep
from .call import Block, Layer, ModelCall
from .find_layout import Search, find_layout
from .head_split import HeadShare, MovedMasks
from .layout import TokenLayout
from .qualities import anchors_for
from .run import Run, StageState
from .settings import CarvingSettings

NO_ATTENTION = "the model made no self-attention call that Jenga can see"


@dataclass
class CarvedCall:
    """State of one model call whose attention is carved.

    owner: whose carving this is; anchors are kept apart by it. anchors: None where this call has none; then `config`
    counts, else `anchored_config`. dense_reason: why the settings want this whole call dense. layout: the call's; where
    it has none, what was found by `search`, which is None where the layout is known.
    own_exact: anchors may take our own kernel with everything kept in the place of the host's attention. own_dense:
    what stays dense is the host's attention and nobody else's, so that several devices may share it. occupied: why
    devices that were not named should not get a share of this call's heads; empty where they may.
    """

    owner: object
    run: Run
    call: ModelCall
    settings: CarvingSettings
    config: JengaConfig
    anchors: AnchorConfig | None
    anchored_config: JengaConfig | None
    dense_reason: str = ""
    search: Search | None = None
    layout: TokenLayout | None = None
    own_exact: bool = False
    own_dense: bool = True
    occupied: str = ""
    attended: bool = False
    # Of the whole call (None) or of a share of its heads, by the first attention call; where carving has anchors.
    steps: dict[HeadShare | None, AnchorStep] = field(default_factory=dict)
    _occurrences: Counter = field(default_factory=Counter)
    _masks: list[tuple[torch.Tensor, torch.Tensor | None, MovedMasks]] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        owner,
        settings: CarvingSettings,
        stage: StageState,
        call: ModelCall,
        dense_reason: str = "",
        search: Search | None = None,
    ):
        """Of a model call that is really computed. dense_reason: the host's, where it has one. search: for a call
        without a layout.
        """
        bias = settings.config.text_logit_bias + stage.text_logit_bias
        chosen = replace(settings.config, text_logit_bias=bias)
        config = chosen if stage.density is None else replace(chosen, density=stage.density)
        anchors, anchored_config = _anchors(settings, call.steps, stage.run), None
        if anchors is not None:
            anchored_config = chosen if anchors.density is None else replace(chosen, density=anchors.density)
        carved = cls(owner, stage.run, call, settings, config, anchors, anchored_config, dense_reason, search)
        if call.layout is not None:
            carved._take(call.layout)
        return carved

    def _take(self, layout: TokenLayout) -> None:
        self.layout, num_video = layout, layout.grid.num_tokens
        self.config, self.anchored_config = _weighed(self.config, layout), _weighed(self.anchored_config, layout)
        if num_video < self.settings.min_tokens:
            self.dense_reason = f"{num_video} video tokens, min_tokens is {self.settings.min_tokens}"
        elif keeps_all(self.anchored_config or self.config, num_video):
            words = f"every key block is kept: density or top_p ask for all of {num_video} video tokens"
            self.run.listener.note(words)

    def find_layout(self, v: torch.Tensor, patches: Iterable[tuple[int, int, int]]) -> None:
        """Before a self-attention call of a model without a layout: look for the video in its tokens, once a run for
        each shape. v: [B, H, S, D]. patches: (t, h, w) that the host says.
        """
        if self.layout is not None:
            return
        search = self.search
        what = ("layout", self.owner, search.latent.shape[1:], v.shape[1:])
        found = self.run.once(what, lambda: find_layout(search, patches, v))
        if found is not None:
            self._take(found)

    @property
    def unseen(self) -> str:
        """Why no attention call of a model call was one over the video."""
        if self.call.layout is None:
            return "no self-attention call of this model has the video of its latent in it, patch after patch"
        return NO_ATTENTION

    def name_missing_blocks(self) -> None:
        """After the model call: what dense_blocks names and the model does not have, said once a run."""
        blocks = self.run.num_blocks
        missing = sorted(block for block in self.settings.dense_blocks if block >= blocks)
        if self.attended and missing:
            named = ", ".join(map(str, missing)) if len(missing) < 4 else f"{missing[0]} to {missing[-1]}"
            words = f"dense_blocks names {named}: the model has blocks 0 to {blocks - 1}"
            self.run.once("missing blocks", lambda: self.run.listener.note(words))

    def layer(self, block: Block | None) -> Layer:
        """The layer of the self-attention call that comes now. block: None where the host does not name it."""
        self.attended = self.run.attended = True
        if block is None:
            block = Block("", self._occurrences[""])
            self._occurrences[""] += 1
            return self.run.layer(block, 0)
        occurrence = self._occurrences[block.type, block.index]
        self._occurrences[block.type, block.index] += 1
        return self.run.layer(block, occurrence)

    def key_mask(self, mask: torch.Tensor | None, batch: int, tokens: int) -> tuple[torch.Tensor | None, bool]:
        """bool [B, S] of the keys a mask allows (None: all), and whether the mask says just that.

        Read once a model call: the layers get the same tensor object.
        """
        if mask is None:
            return None, True
        for known, kv_mask, _ in self._masks:
            if known is mask:
                return kv_mask, kv_mask is not None
        kv_mask = _padding_mask(mask, batch, tokens)
        self._masks.append((mask, kv_mask, MovedMasks((mask, kv_mask))))
        return kv_mask, kv_mask is not None

    def moved_masks(self, mask: torch.Tensor | None) -> MovedMasks:
        """(mask, its key mask) on other devices; of a mask that `key_mask` has read."""
        return next((moved for known, _, moved in self._masks if known is mask), MovedMasks((None, None)))


def _weighed(config: JengaConfig | None, layout: TokenLayout) -> JengaConfig | None:
    """The configuration with what the layout says of its text."""
    if config is None or not layout.bias:
        return config
    return replace(config, text_logit_bias=config.text_logit_bias + layout.bias)


def keeps_all(config: JengaConfig, num_video: int) -> bool:
    """Whether carving by that configuration leaves nothing out of so many video tokens."""
    return config.top_p >= 1 or config.min_blocks(num_video) >= config.num_kv_blocks(num_video)


def _anchors(settings: CarvingSettings, steps: float, run: Run) -> AnchorConfig | None:
    """The anchors of a sampler call, by its steps; a host that does not tell them gets those of long ones."""
    found = anchors_for(settings.anchors, steps)
    if settings.anchors and found is None:
        fewest = settings.anchors[-1].min_steps
        run.listener.note(f"no anchors: {steps} steps at this size, anchors take {fewest}")
    return found


def _padding_mask(mask: torch.Tensor, batch: int, tokens: int) -> torch.Tensor | None:
    """bool [B, S] of a mask that allows or forbids whole keys, for all heads and queries alike; None for another."""
    for axis in range(mask.dim() - 1):
        if mask.stride(axis) == 0:  # expanded: the same all along this axis, without a look at the values
            mask = mask.narrow(axis, 0, 1)
    if mask.shape[-1] != tokens or mask.numel() not in (tokens, batch * tokens):
        return None
    rows = mask.reshape(-1, tokens)
    if rows.dtype != torch.bool:
        allowed = rows == 0
        if not bool((allowed | (rows <= torch.finfo(rows.dtype).min / 2)).all()):
            return None
        rows = allowed
    return rows.expand(batch, tokens)
