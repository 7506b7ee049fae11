"""What more GPUs would give, from what two of them measured: times of parts, put together as they run.

Heads over the devices of one process (`Parts`, measured by benchmarks.heads_over_devices). Home packs what it sends and
computes its own heads while a copy engine sends the others theirs, piece after piece over one link. A call is over when
the slowest of three is: home itself; a device whose work covers its copies, all but those of its first and last piece;
the last device, whose last piece starts when all is sent. Then home joins the outputs:

    T(P) = max(pack + work(H/P), start + first in + work(H/P) + last out, start + all in + work(last) + last out) + join

Ranks of processes (Ulysses). Everything is shared but what ranks exchange, which is (P - 1) / P² of the tensors a rank:

    T(P) = T(1) / P + x(P),    x(P) = (T(2) - T(1) / 2) · 4 (P - 1) / P²

Neither knows of a slower link between hosts, nor of kernels that get less efficient with fewer heads beyond what was
measured; both are what to expect on one host whose GPUs reach each other alike.
"""

from dataclasses import dataclass

CARDS = (2, 4, 8)


@dataclass(frozen=True)
class Parts:
    """Seconds. of_heads: a call of so many heads on one device. copied, packed, joined: one head's q, k, v and out sent
    over the link, its q, k, v made gapless at home, its out written into the whole one there.
    """

    heads: int
    pieces: int
    of_heads: dict[int, float]
    copied: float
    packed: float
    joined: float

    def work(self, heads: float) -> float:
        """Of so many heads; between measured numbers of heads along a line, below the least one in proportion."""
        known = sorted(self.of_heads)
        if heads <= known[0]:
            return self.of_heads[known[0]] * heads / known[0]
        upper = next((one for one in known if one >= heads), known[-1])
        lower = max((one for one in known if one < heads), default=upper)
        if lower == upper:
            return self.of_heads[upper] * heads / upper
        share = (heads - lower) / (upper - lower)
        return self.of_heads[lower] * (1 - share) + self.of_heads[upper] * share


def call_seconds(parts: Parts, cards: int) -> float:
    """T(P) of a call whose heads are over so many cards of one process."""
    own = parts.heads / cards
    # The first and the last piece are half as long as those between.
    piece = min(own, max(1.0, own / max(1, 2 * parts.pieces - 2)))
    sent = parts.heads - own
    # Three of four tensors go there; one comes back, over the other direction of the link.
    there, back = 0.75 * parts.copied, 0.25 * parts.copied
    started = parts.packed * piece  # of the first pieces, after which copies run
    home = parts.packed * sent + parts.work(own)
    first_device = started + there * piece + parts.work(own) + back * piece
    last_device = started + there * sent + parts.work(piece) + back * piece
    return max(home, first_device, last_device) + parts.joined * parts.heads


def forward_seconds(one: float, two: float, ranks: int) -> float:
    """T(P) of a forward over so many ranks, from that on one and on two."""
    exchange = max(0.0, two - one / 2)
    return one / ranks + exchange * 4 * (ranks - 1) / ranks**2


def table(title: str, one: float, two: float, expected: dict[int, float]) -> str:
    """Markdown: seconds and ratio for each number of cards; two: measured, beside what the formula says of it."""
    lines = [f"| {title} | seconds | faster |", "|---|---|---|", f"| 1, measured | {one:.4f} | 1.00× |"]
    lines.append(f"| 2, measured | {two:.4f} | {one / two:.2f}× |")
    lines += [f"| {cards}, by formula | {taken:.4f} | {one / taken:.2f}× |" for cards, taken in expected.items()]
    return "\n".join(lines)
