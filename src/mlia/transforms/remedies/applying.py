"""Rewrites of `mlia.transforms.rewrites` as remedies: a few chosen ones, without running the model."""

from itertools import islice

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.transforms.rewrites import folding, layout, regions
from mlia.transforms.rewrites.network import Edit, Network, without_unused_tensors
from mlia.transforms.rewrites.rewrite import Rule, applied, local

_MOST_STEPS = 1000  # no chain of rewrites is longer, unless two undo each other


def apply_rewrites(graph: Graph, *rules: Rule) -> Graph:
    """The graph with these rewrites, repeated until nothing changes any more.

    Raises:
        TransformError: none of them has anything to do.
    """
    steps = list(islice(applied(graph, rules, lambda before, step: True), _MOST_STEPS))
    if not steps:
        raise TransformError("there is nothing to rewrite")
    return without_unused_tensors(steps[-1].graph)


def without_transposes(graph: Graph) -> Graph:
    """The graph with fewer TRANSPOSEs, which cancel, go into weights, or only move axes of size 1."""
    finds = (
        layout.merged_transposes,
        regions.cancelled_transposes,
        layout.transpose_into_weights,
        layout.transpose_as_reshape,
        layout.merged_reshapes,
    )
    return apply_rewrites(graph, *map(local, finds))


def without_idle_operators(graph: Graph) -> Graph:
    """The graph without operators that change nothing."""
    return apply_rewrites(graph, local(_without_effect))


def _without_effect(network: Network, found: Operator) -> Edit | None:
    """Reductions stay: one over axes of size 1 may still round."""
    return None if found.kind in regions.REDUCING else folding.without_effect(network, found)
