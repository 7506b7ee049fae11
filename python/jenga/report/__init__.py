"""Listens to a run and draws it: figures, pictures, comparison of clips. Nothing is decided from it."""
