"""The presets in words, made from their rows: tooltips of the nodes, tables of the help pages and of the README."""

from collections.abc import Sequence
from itertools import groupby

from .presets import FAMILIES, ROWS, STAGE_ROWS, PresetRow, StageRule

SHARES = {0.25: "a quarter of the steps", 0.5: "half of the steps"}


def tooltip(last: str, rows: Sequence[PresetRow] = ROWS) -> str:
    """What each preset does, a line each. last: the line of the node's own choice behind them."""
    return "\n".join([*map(_line, rows), last])


def table() -> str:
    """Markdown: a row for each preset."""
    return _table(ROWS)


def stages_table() -> str:
    """Markdown: a row for each preset that is no position of the dial."""
    return _table(STAGE_ROWS)


def _table(presets: Sequence[PresetRow]) -> str:
    rows = [(row.name, row.purpose, sizes(row.stages), kept(row), reuse(row)) for row in presets]
    head = ("preset", "for", "size", "kept share of key blocks", "step reuse")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def sizes(rules: tuple[StageRule, ...]) -> str:
    """Which part of the steps runs at which size."""
    groups = [(scale, list(group)[-1].until) for scale, group in groupby(rules, key=lambda rule: rule.scale)]
    words = []
    for scale, until in groups:
        if until == 1:
            words.append("then full size" if words else "full size")
        elif words:
            words.append(f"up to {_part(until).removesuffix(' of the steps')} at {_percent(scale)}")
        else:
            words.append(f"{_part(until)} at {_percent(scale)} size")
    return ", ".join(words)


def by_hand(rules: tuple[StageRule, ...]) -> tuple[str, str]:
    """scales and switch_points, as a user writes them for stages of his own."""
    return ", ".join(str(rule.scale) for rule in rules), ", ".join(str(rule.until) for rule in rules[:-1])


def kept(row: PresetRow, of: str = "") -> str:
    """Kept share of every stage, the word `of` behind it, and that of families with published numbers of their own."""
    if row.dial:
        return f"{_percent(row.dial.share)}{of}, and each layer is dense on {_dense_steps(row.dial.distance)}"
    usual = _densities(row.stages)
    others = {FAMILIES[family]: _densities(rules) for family, rules in row.published.items()}
    words = "; ".join(f"{name}: {shares}" for name, shares in others.items() if shares != usual)
    return f"{usual}{of}{f' ({words})' if words else ''}"


def reuse(row: PresetRow) -> str:
    """How it repeats the model's last output."""
    if row.dial:
        other = row.dial.published_threshold
        words = f"; by published coefficients {other:g}" if other != row.dial.threshold else ""
        return f"adaptive, {row.dial.threshold:g}{words}"
    return "static" if row.reuses_steps else "no"


def _line(row: PresetRow) -> str:
    shares, purpose = kept(row, " of the key blocks"), row.purpose.replace("*", "")
    return f"{row.name}, {purpose}: {sizes(row.stages)}. Keeps {shares}. Step reuse: {reuse(row)}."


def _dense_steps(distance: int) -> str:
    if not distance:
        return "the first step of each size"
    words = {2: "second", 3: "third"}.get(distance, f"{distance}th")
    return f"every {words} step, in turns"


def _densities(rules: tuple[StageRule, ...]) -> str:
    if len({rule.density for rule in rules}) == 1:
        return _percent(rules[0].density)
    if len({rule.scale for rule in rules}) > 1:  # the sizes say when it changes
        return ", then ".join(_percent(rule.density) for rule in rules)
    *firsts, last = rules
    words = [f"{_percent(rule.density)} for {_part(rule.until)}" for rule in firsts]
    return ", ".join([*words, f"{'then ' * bool(words)}{_percent(last.density)}"])


def _part(fraction: float) -> str:
    return SHARES.get(fraction, f"{_percent(fraction)} of the steps")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}\u00a0%"  # no line ends between the two
