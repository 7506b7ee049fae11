"""The heads of one attention call over several devices of one process.

Heads do not know of each other, so each device takes some of them whole: their queries, keys and values go there, the
output comes back, and what is planned or kept for them between steps stays where they are. The device of the model
(home) starts with its own heads at once; the others take theirs in pieces, so that a piece is computed while the next
one is copied and the one before it goes home. The output is that of one device, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch

from ..carving.attention import CarvedResult
from .anchors import ANCHOR
from .lane import Lane, copy_rows, packed, ready_at, wait_for

PIECES = 4  # of what one device computes: the first piece's way there and the last one's way back stay uncovered


class DeviceFailed(RuntimeError):
    """A device beside the home could not do its share."""


@dataclass(frozen=True)
class HeadShare:
    """Heads start .. stop - 1 of a call that came from `home`, for `device`; in all there are so many sharers."""

    home: torch.device
    device: torch.device
    start: int
    stop: int
    sharers: int

    @property
    def heads(self) -> int:
        return self.stop - self.start


def share_heads(num_heads: int, home: torch.device, others: Sequence[torch.device], pieces: int) -> list[HeadShare]:
    """Home's heads first, then the pieces of the others in turn: the first piece of each, the second of each.

    Devices get the same number of heads, the first ones one more where it does not go up; a device without a head gets
    no share. A device's first and last pieces are half as long as those between, where heads allow it.
    """
    sharers = 1 + len(others)
    bounds = [-(-num_heads * device // sharers) for device in range(sharers + 1)]
    cut = [_pieces(start, stop, pieces) for start, stop in zip(bounds[1:], bounds[2:], strict=False)]
    shares = [HeadShare(home, home, 0, bounds[1], sharers)]
    for turn in range(pieces):
        for device, parts in zip(others, cut, strict=True):
            if turn < len(parts):
                shares.append(HeadShare(home, device, *parts[turn], sharers))
    return shares


def _pieces(start: int, stop: int, pieces: int) -> list[tuple[int, int]]:
    """start .. stop in at most so many consecutive pieces, none of them empty."""
    if pieces == 1:
        return [(start, stop)] if start < stop else []
    weights = [1, *[2] * (pieces - 2), 1]
    ends = [start + round((stop - start) * sum(weights[: piece + 1]) / sum(weights)) for piece in range(pieces)]
    return [(begin, end) for begin, end in zip([start, *ends], ends, strict=False) if begin < end]


class HeadSplit:
    """Calls from one home device over it and others: of one run, used by one thread at a time.

    failure: why the others are not used any more; empty while they are.
    """

    def __init__(self, home: torch.device, others: Sequence[torch.device]):
        self.home, self.others, self.failure = home, tuple(others), ""
        self._lanes = {device: Lane(home, device) for device in self.others}

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        masks: "MovedMasks",
        work: Callable[..., CarvedResult],
    ) -> CarvedResult:
        """work(share, q, k, v, masks) of every share's heads on its device, as one result at home.

        q k v: [B, H, S, D] at home. masks: what a device needs whole. The result has out of all heads, their mean kept
        share, no lse, and the lists of home's own heads. Raises DeviceFailed where another device could not do its
        share or runs another backend than home's.
        """
        own, *rest = share_heads(q.shape[1], self.home, self.others, PIECES)
        batch, heads, tokens, head_dim = q.shape
        whole = q.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)
        pieces = [_Piece.of(share, self._lanes[share.device], q, k, v) for share in rest]
        try:
            for piece in pieces:
                piece.bring(masks)
            first = work(own, *(x[:, : own.stop] for x in (q, k, v)), masks.at_home)
            for piece in pieces:
                piece.compute(work, first)
            copy_rows(whole[:, : own.stop], first.out)
            kept_share = first.kept_share * (own.heads / heads)
            for piece in pieces:
                kept_share = kept_share + piece.join(whole)
        finally:
            with suppress(RuntimeError):  # a device that has failed says so above, or at its next call
                for lane in self._lanes.values():
                    lane.settle()
        results = [first, *(piece.found for piece in pieces)]
        carved = next((found for found in results if found.backend != ANCHOR), first)
        ran = {"backend": carved.backend, "precision": carved.precision, "reason": carved.reason}
        return replace(first, out=whole, lse=None, kept_share=kept_share, **ran)


@dataclass
class _Piece:
    """A share of another device on its way: all that must live until the lane has settled.

    sent: q, k, v of its heads at home, without gaps. places: at home, for its output [B, S, heads, D] and kept share.
    ready: event at home after which both may be used.
    """

    share: HeadShare
    lane: Lane
    sent: tuple[torch.Tensor, ...]
    places: tuple[torch.Tensor, torch.Tensor]
    ready: torch.cuda.Event | None
    masks: tuple = ()
    brought: tuple = ()
    result: tuple = ()
    event: torch.cuda.Event | None = None

    @classmethod
    def of(cls, share: HeadShare, lane: Lane, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> "_Piece":
        batch, _, tokens, head_dim = q.shape
        sent = tuple(packed(x[:, share.start : share.stop]) for x in (q, k, v))
        places = q.new_empty(batch, tokens, share.heads, head_dim), q.new_empty((), dtype=torch.float32)
        return cls(share, lane, sent, places, ready_at(share.home))

    @property
    def found(self) -> CarvedResult:
        return self.result[0]

    def bring(self, masks: "MovedMasks") -> None:
        with _failing(self.share.device):
            self.masks = masks.on(self.lane, self.ready)
            self.brought = self.lane.bring(self.sent, self.ready)

    def compute(self, work: Callable[..., CarvedResult], first: CarvedResult) -> None:
        """On its device, and the way home. first: what home computed."""

        def there(q, k, v) -> tuple:
            found = work(self.share, q, k, v, self.masks)
            return found, found.out.transpose(1, 2).contiguous(), found.kept_share

        with _failing(self.share.device):
            self.result, done = self.lane.compute(*self.brought, there)
            _check_backend(first, self.found, self.share)
            self.event = self.lane.send_home(self.result[1:], done, self.places)

    def join(self, whole: torch.Tensor) -> torch.Tensor:
        """Writes its heads of the whole output; its part of the mean kept share."""
        with _failing(self.share.device):
            wait_for(self.event, self.share.home)
        copy_rows(whole[:, self.share.start : self.share.stop], self.places[0].transpose(1, 2))
        return self.places[1] * (self.share.heads / whole.shape[1])


class MovedMasks:
    """Masks of one model call on each device: moved there once, so that layers get the same tensor objects.

    at_home: tensors or None.
    """

    def __init__(self, at_home: tuple[torch.Tensor | None, ...]):
        self.at_home = at_home
        self._there: dict[torch.device, tuple] = {}

    def on(self, lane: Lane, ready) -> tuple[torch.Tensor | None, ...]:
        """The masks on the lane's device; what is brought after them arrives after them."""
        if lane.device not in self._there:
            moved, _ = lane.bring(tuple(x for x in self.at_home if x is not None), ready)
            parts = iter(moved)
            self._there[lane.device] = tuple(None if x is None else next(parts) for x in self.at_home)
        return self._there[lane.device]


def _check_backend(first: CarvedResult, found: CarvedResult, share: HeadShare) -> None:
    """Another backend or precision would give other bits, and one of the two would be the slower one."""
    if len({first.ran, found.ran} - {ANCHOR}) > 1:
        reason = f": {found.reason}" if found.reason else ""
        raise DeviceFailed(f"{share.device} runs {found.ran} and {share.home} {first.ran}{reason}")


@contextmanager
def _failing(device: torch.device) -> Iterator[None]:
    """Whatever a device beside the home raises is that device's failure."""
    try:
        yield
    except DeviceFailed:
        raise
    except torch.OutOfMemoryError as error:
        raise DeviceFailed(f"{device} is out of memory") from error
    except Exception as error:
        words = str(error).strip().splitlines()[:1]
        raise DeviceFailed(": ".join([f"{device} failed with {type(error).__name__}", *words])[:300]) from error
