"""One line of text on a node, and the log."""

import logging

from . import private


def say(node_id: str | None, text: str) -> None:
    """Show `text` on the node. Nothing happens where no page is listening."""
    if node_id is not None:
        private.show_text(node_id, text)


def warn(node_id: str | None, text: str) -> None:
    """Show `text` on the node and in the log."""
    logging.warning("Jenga: %s", text)
    say(node_id, text)
