"""What `export` gives: the model as a protobuf, written to files, run by onnxruntime."""

from __future__ import annotations

import importlib
import os
import tempfile
from typing import Any

import numpy as np

from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor, wrap
from ...autograd.trees import flatten
from ..extras import require
from ..files import replacing
from .errors import OnnxExporterError
from .graph import TYPES, Graph, Item, Node, type_of
from .sizes import Dim
from .state import buffers_kept, evaluating

LARGEST = 2**31 - 1  # bytes of a protobuf message
FORMATS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}  # opset -> the oldest version of the format that has it
DTYPES = {number: name for name, number in TYPES.items()}
OWN_FILE = 1024  # bytes of a tensor from which on it goes into the file of external data


def model_proto(
    graph: Graph, inputs: list[Item], outputs: list[Item], *, producer: str, params: bool, as_inputs: bool
) -> Any:
    """The graph as an onnx.ModelProto."""
    onnx = importlib.import_module("onnx")
    nodes = needed_nodes(graph.nodes, [o.name for o in outputs])
    read = {name for node in nodes for name in node.inputs}
    weights = {name: array for name, array in graph.initializers.items() if name in read}
    kept = {n: a for n, a in weights.items() if params or n not in graph.parameters}
    extra = [n for n in weights if n not in kept or as_inputs and n in graph.parameters]
    proto = onnx.ModelProto(ir_version=FORMATS[graph.opset], producer_name="tapegrad", producer_version=producer)
    proto.opset_import.add(domain="", version=graph.opset)
    g = proto.graph
    g.name = "tapegrad"
    g.node.extend([_node(onnx, node) for node in nodes])
    g.input.extend([_info(onnx, i.name, i.dtype, _words(graph, i)) for i in inputs])
    g.input.extend([_info(onnx, n, weights[n].dtype, weights[n].shape) for n in extra])
    g.output.extend([_info(onnx, o.name, o.dtype, _words(graph, o)) for o in outputs])
    g.initializer.extend(_initializers(onnx, kept))
    return proto


def _node(onnx: Any, node: Node) -> Any:
    """A node as a message; attributes are ints, floats, texts, and lists of ints or texts."""
    made = onnx.NodeProto(op_type=node.kind, name=node.name, input=node.inputs, output=node.outputs)
    for name in sorted(node.attributes):
        value = node.attributes[name]
        one = made.attribute.add(name=name)
        if isinstance(value, str):
            one.type, one.s = one.STRING, value.encode()
        elif isinstance(value, float):
            one.type, one.f = one.FLOAT, value
        elif not isinstance(value, (list, tuple)):
            one.type, one.i = one.INT, int(value)
        elif value and isinstance(value[0], str):
            one.type = one.STRINGS
            one.strings.extend([v.encode() for v in value])
        else:
            one.type = one.INTS
            one.ints.extend([int(v) for v in value])
    return made


def _initializers(onnx: Any, weights: dict[str, Any]) -> list[Any]:
    """The weights; where a message cannot hold them all, the large ones as places in a file that `save` writes."""
    beyond = sum(a.nbytes for a in weights.values()) > LARGEST
    made = []
    for name, array in weights.items():
        if beyond and array.nbytes >= OWN_FILE:
            made.append(onnx.TensorProto(name=name, data_type=type_of(array.dtype), dims=array.shape))
            made[-1].data_location = onnx.TensorProto.EXTERNAL
        else:
            made.append(onnx.TensorProto(name=name, data_type=type_of(array.dtype), dims=array.shape))
            made[-1].raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return made


def needed_nodes(nodes: list[Node], outputs: list[str]) -> list[Node]:
    """The nodes that an output depends on, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _info(onnx: Any, name: str, dtype: Any, shape: Any) -> Any:
    """What is said of an input or output: its type and shape, dynamic sizes by name."""
    made = onnx.ValueInfoProto(name=name)
    tensor = made.type.tensor_type
    tensor.elem_type = type_of(dtype)
    tensor.shape.SetInParent()  # of a number: a shape without dimensions
    for size in shape:
        tensor.shape.dim.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})
    return made


def _words(graph: Graph, item: Item) -> list[Any]:
    return [_word(graph, s) if isinstance(s, Dim) else s for s in item.shape]


def _word(graph: Graph, size: Dim) -> str:
    """The name of a dynamic size: that of an input's axis, or one that says how it follows."""
    known = graph.sizes.inputs
    if size not in known:
        known[size] = f"size_{len(known)}"
    return known[size]


class ONNXProgram:
    """An exported model.

    Attributes:
        model_proto: the onnx.ModelProto. Of a model beyond 2 GB it has no weights: `save` writes them to a file.
    """

    def __init__(self, proto: Any, graph: Graph, model: Any, inputs: Any, external_data: bool = True):
        self.model_proto = proto
        self._weights, self._parameters = graph.initializers, graph.parameters
        self._model, self._inputs, self._external = model, inputs, external_data
        self._session: Any = None

    # ---- files

    def save(
        self,
        destination: str | os.PathLike[str],
        *,
        include_initializers: bool = True,
        keep_initializers_as_inputs: bool = False,
        external_data: bool | None = None,
    ) -> None:
        """Writes the model. external_data: True puts the weights into DESTINATION.data; None: if they pass 2 GB.

        Each file is whole or absent at any moment; the data are written before the model that names them.
        """
        onnx = importlib.import_module("onnx")
        path = os.fspath(destination)
        proto = self.model_proto
        if not include_initializers or keep_initializers_as_inputs:
            proto = _other_inputs(onnx, proto, self._parameters, include_initializers)
        beyond = self._is_beyond()
        if beyond and (external_data is False or not self._external and external_data is None):
            raise ValueError(
                "the model is larger than 2 GB, which ONNX cannot hold in one file: export and save it with "
                "external_data=True"
            )
        if external_data or beyond:
            proto = _write_data(onnx, proto, self._weights, path + ".data")
        with replacing(path) as file:
            file.write(proto.SerializeToString())

    def _is_beyond(self) -> bool:
        """Whether the weights are not in the message, which cannot hold them."""
        return any(t.data_location for t in self.model_proto.graph.initializer)

    # ---- running

    def initialize_inference_session(self, initializer: Any = None) -> Any:
        """The onnxruntime session of the model, made once."""
        if self._session is None:
            runtime = require("onnxruntime", "onnx", "torch.onnx needs")
            options = runtime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
            make = initializer or (lambda model: runtime.InferenceSession(model, options, ["CPUExecutionProvider"]))
            if not self._is_beyond():
                self._session = make(self.model_proto.SerializeToString())
            else:
                with tempfile.TemporaryDirectory() as folder:
                    path = os.path.join(folder, "model.onnx")
                    self.save(path)
                    self._session = make(path)
        return self._session

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """The outputs of the model in onnxruntime on these inputs, as tensors."""
        leaves = [leaf for leaf in flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        session = self.initialize_inference_session()
        names = self._inputs.names
        if len(leaves) != len(names):
            raise ValueError(f"the model takes the tensors {names}, got {len(leaves)}")
        held = {i.name for i in session.get_inputs()}
        feeds = {n: np.asarray(t.array, order="C") for n, t in zip(names, leaves, strict=True) if n in held}
        return tuple([wrap(np.asarray(out)) for out in session.run(None, feeds)])

    def verify(self, rtol: float = 1e-3, atol: float = 1e-4) -> None:
        """Compares with the model on the example inputs, and on others whose sizes the traces did not have together.

        Raises OnnxExporterError for an output that differs by more than atol + rtol * |expected|.
        """
        for turn, sizes in enumerate(self._inputs.points):
            args, kwargs = self._inputs.resized(sizes, self._inputs.moved and turn)[1]
            try:
                with evaluating(self._model), buffers_kept(self._model), no_grad():
                    expected = [t for t in flatten(_outputs(self._model(*args, **kwargs)))[0] if t is not None]
            except Exception:  # lengths, say, that do not belong to these sizes, which a trace does not read
                if not turn:
                    raise
                continue
            for i, (want, have) in enumerate(zip(expected, self(*args, **kwargs), strict=True)):
                if not np.allclose(want.array, have.array, rtol=rtol, atol=atol, equal_nan=True):
                    worst = float(np.max(np.abs(want.array - have.array)))
                    raise OnnxExporterError(
                        f"verify: output {i} of the exported model differs by {worst:.3g} (dynamic sizes {sizes})"
                    )

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for node in self.model_proto.graph.node:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        shown = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items()))
        opset = self.model_proto.opset_import[0].version
        return f"ONNXProgram(opset {opset}, {sum(counts.values())} nodes: {shown})"


def _outputs(tree: Any) -> Any:
    from .trace import _plain

    return _plain(tree)


def _other_inputs(onnx: Any, proto: Any, parameters: set[str], include: bool) -> Any:
    """A copy whose weights are (also) inputs."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    known = {i.name for i in made.graph.input}
    weights = [t for t in made.graph.initializer if t.name in parameters]
    for t in weights:
        if t.name not in known:
            made.graph.input.append(_info(onnx, t.name, DTYPES[t.data_type], t.dims))
    if not include:
        for t in weights:
            made.graph.initializer.remove(t)
    return made


def _write_data(onnx: Any, proto: Any, weights: dict[str, Any], path: str) -> Any:
    """The large weights written to a file of their own; a copy of the model that names their places there."""
    made = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    made.producer_name, made.producer_version = proto.producer_name, proto.producer_version
    g = made.graph
    g.name = proto.graph.name
    g.node.extend(proto.graph.node)
    g.input.extend(proto.graph.input)
    g.output.extend(proto.graph.output)
    place = 0
    with replacing(path) as file:
        for tensor in proto.graph.initializer:
            array = weights[tensor.name]
            if array.nbytes < OWN_FILE:
                g.initializer.append(tensor)
                continue
            file.write(b"\0" * (-place % 4096))  # pages, so that it can be mapped
            place += -place % 4096
            file.write(np.ascontiguousarray(array).data)
            new = g.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            new.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", os.path.basename(path)), ("offset", place), ("length", array.nbytes)):
                new.external_data.add(key=key, value=str(value))
            place += array.nbytes
    return made
