"""One line of text on a node, and the log."""

import logging


def say(node_id: str | None, text: str) -> None:
    """Show `text` on the node. Nothing happens where no page is listening."""
    try:
        from server import PromptServer  # not ComfyUI's public API: without it the nodes run and say less
    except ImportError:
        return
    server = getattr(PromptServer, "instance", None)
    if node_id is not None and server is not None:
        server.send_progress_text(text, node_id)


def warn(node_id: str | None, text: str) -> None:
    """Show `text` on the node and in the log."""
    logging.warning("Jenga: %s", text)
    say(node_id, text)
