"""Nested tuples, lists and dicts of leaves, as functions of functions take and give them."""

from __future__ import annotations

from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of nested tuples, lists and dicts, and what `unflatten` needs to put others in their places."""
    if isinstance(tree, dict):
        parts = [flatten(tree[k]) for k in tree]
        spec = (type(tree), list(tree), [(s, len(p)) for p, s in parts])
        return [leaf for leaves, _ in parts for leaf in leaves], spec
    if isinstance(tree, (tuple, list)):
        parts = [flatten(item) for item in tree]
        kind = type(tree)
        return [leaf for leaves, _ in parts for leaf in leaves], (kind, None, [(s, len(p)) for p, s in parts])
    return [tree], None


def unflatten(leaves: list[Any], spec: Any) -> Any:
    """The tree of `flatten` with these leaves."""
    if spec is None:
        return leaves[0]
    kind, keys, parts = spec
    items, at = [], 0
    for sub, count in parts:
        items.append(unflatten(leaves[at : at + count], sub))
        at += count
    if keys is not None:
        return kind(zip(keys, items, strict=True))
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def count_leaves(spec: Any) -> int:
    """How many leaves a tree of this structure has."""
    return 1 if spec is None else sum(count for _, count in spec[2])


def spread_over(tree: Any, spec: Any) -> list[Any] | None:
    """A smaller tree's leaves, each repeated for all leaves that stand in its place; None where they do not fit.

    `tree` has the structure of `spec`, or a leaf where that has a tree.
    """
    if not isinstance(tree, (tuple, list, dict)):
        return [tree] * count_leaves(spec)
    if spec is None or not _same_kind(type(tree), spec[0]) or len(tree) != len(spec[2]):
        return None
    if isinstance(tree, dict) and set(tree) != set(spec[1]):
        return None
    found: list[Any] = []
    for item, (sub, _) in zip([tree[k] for k in spec[1]] if isinstance(tree, dict) else tree, spec[2], strict=True):
        part = spread_over(item, sub)
        if part is None:
            return None
        found += part
    return found


def _same_kind(a: type, b: type) -> bool:
    return a is b or (issubclass(a, dict) and issubclass(b, dict))


def structure(tree: Any) -> str:
    """The structure of a tree as texts of errors show it: * for a leaf."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {structure(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inner = ", ".join(structure(item) for item in tree)
        return f"({inner},)" if isinstance(tree, tuple) and len(tree) == 1 else f"({inner})" if isinstance(
            tree, tuple
        ) else f"[{inner}]"
    return "*"
