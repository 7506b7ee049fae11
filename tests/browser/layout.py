"""Where nodes lie on the canvas."""

import itertools


def overlapping(boxes: dict) -> list[tuple[str, str]]:
    """Pairs of nodes of which one lies over the other."""

    def overlap(a, b):
        return all(a[i] < b[i] + b[i + 2] and b[i] < a[i] + a[i + 2] for i in (0, 1))

    return [(a, b) for a, b in itertools.combinations(boxes, 2) if overlap(boxes[a], boxes[b])]
