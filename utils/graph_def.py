"""A traced forward pass as TensorBoard's GraphDef: modules are its scopes, ops its nodes."""

from __future__ import annotations

import importlib
from typing import Any

from .graph_tracing import Call, Step, Trace

__all__ = ["graph_def"]

# What a node that is no op is called, as PyTorch's writer does
_OPS = {"input": "IO Node", "output": "IO Node", "parameter": "Parameter", "buffer": "Buffer", "constant": "Constant"}


class _Names:
    """Names of nodes and scopes, each used once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._scopes: dict[Call, str] = {}
        self.of: dict[int, str] = {}  # id of a step -> its name

    def free(self, name: str) -> str:
        """The name, with a number where it is taken."""
        found, count = name, 1
        while found in self._used:
            found, count = f"{name}_{count}", count + 1
        self._used.add(found)
        return found

    def scope(self, call: Call | None) -> str:
        """The scope of a call, such as "Net/Linear[fc]/"; "" outside of modules."""
        if call is None:
            return ""
        if call not in self._scopes:
            part = call.name[len(call.above.name) :].lstrip(".") if call.above is not None else ""
            own = f"{call.class_name}[{part}]" if part else call.class_name
            self._scopes[call] = self.free(self.scope(call.above) + own) + "/"
        return self._scopes[call]


def graph_def(traced: Trace) -> Any:
    """The GraphDef message of tensorboardX for a trace."""
    messages = importlib.import_module("tensorboardX.proto.graph_pb2")
    nodes = importlib.import_module("tensorboardX.proto.node_def_pb2")
    versions = importlib.import_module("tensorboardX.proto.versions_pb2")
    names = _Names()
    users: dict[int, list[Step]] = {}
    for step in traced.steps:
        for source, _ in step.inputs:
            users.setdefault(id(source), []).append(step)
    made = []
    for step in traced.steps:
        names.of[id(step)] = names.free(_name(step, names, users.get(id(step), [])))
        node = nodes.NodeDef(
            name=names.of[id(step)],
            op=step.name if step.kind == "op" else _OPS[step.kind],
            input=[names.of[id(s)] + (f":{result}" if result else "") for s, result in step.inputs],
        )
        _describe(node, step)
        made.append(node)
    return messages.GraphDef(node=made, versions=versions.VersionDef(producer=22))


def _name(step: Step, names: _Names, users: list[Step]) -> str:
    """Ops stand in the scope of their call, values in that of their first user, inputs and outputs in their own."""
    if step.kind in ("input", "output"):
        return f"{step.kind}/{step.name}"
    if step.kind == "op":
        return names.scope(step.call) + step.name
    scope = names.scope(users[0].call) if users else ""
    return scope + (step.name.rpartition(".")[2] or step.kind)


def _describe(node: Any, step: Step) -> None:
    """The attributes that TensorBoard shows: shapes on the edges, dtypes, keywords."""
    for shape in step.shapes:
        added = node.attr["_output_shapes"].list.shape.add()
        for size in shape:
            added.dim.add().size = size
    text = {"dtype": ", ".join(step.dtypes), "name": step.name if step.kind != "op" else ""}
    text["attr"] = ", ".join(
        f"{name}={value!r}" for name, value in step.keywords.items() if not hasattr(value, "dtype")
    )
    for name, value in text.items():
        if value:
            node.attr[name].s = value.encode()
