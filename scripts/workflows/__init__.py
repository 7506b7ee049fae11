"""The example workflows, one builder each: `build(object_info)` gives the graph, `CARD` what its thumbnail says."""
