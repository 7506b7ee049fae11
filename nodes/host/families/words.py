"""The families in words, made from their rows: descriptions of the nodes, tables of the help pages and the README."""

from . import FAMILIES


def carved() -> str:
    """Names of the families whose attention is carved."""
    return _list(family.title for family in FAMILIES if family.tokens)


def table() -> str:
    """Markdown: a row for each family."""
    head = ("family", "models", "attention", "stages and step reuse", "adaptive step reuse by")
    rows = [
        (
            family.title,
            family.models,
            "carved" if family.tokens else "dense",
            "no" if family.no_stages else "yes",
            "–" if family.no_stages else _reuse(family),
        )
        for family in FAMILIES
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def _reuse(family) -> str:
    measured = "the change of the model's input"
    if family.reuse is None:
        return measured
    return f"published coefficients for {', '.join(family.reuse.coefficients)}; else {measured}"


def _list(names) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
