"""The nodes of this pack. Everything of what ships that imports ComfyUI is in this folder."""
