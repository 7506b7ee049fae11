"""Carved attention: tensors in, tensors out. Knows no host, no run and no schedule."""
