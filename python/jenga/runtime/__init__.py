"""One run of a model: what a call is, anchors and where they lie, and the way of one attention call. Knows no host."""
