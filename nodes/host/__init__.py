"""What the nodes share: the machinery that talks to ComfyUI."""
