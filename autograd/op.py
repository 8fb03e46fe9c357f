"""Ops, each written once: `@op` on a generic forward over `xp`, one rule per argument, and `@composite`.

    @op(broadcasts=True, promote="same")
    def mul(xp, x, y):
        '''x * y elementwise. x: (*S), y: (*T) -> (*broadcast(S, T)).'''
        return xp.multiply(x, y)

    mul.vjp(x=lambda F, g, *, y: g * y, y=lambda F, g, *, x: g * x)

The decorated name is the recording function on Tensors. A rule's parameter names say what is saved for it: an input
(`y`), `x_shape` / `x_dtype`, `out`, an auxiliary output, or a keyword of the op. `F` is the backend's raw namespace in
an ordinary backward and GRAPH with create_graph=True.

Nothing is generated at import. The first call of an op makes its record function (codegen.py) and puts its code into
the function object that everybody already holds.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from typing import Any

from ..backends.base import first_of
from ..backends.registry import backend_of_type, kernels_of
from .graph import OWNED

OPS: dict[str, Op] = {}
LATE: list[str] = []  # modules of op families that are loaded when nn, or one of their ops, is asked for


def load_late() -> None:
    """Loads the families of ops that `import tapegrad` leaves out, so that OPS is complete."""
    for module in list(LATE):
        importlib.import_module(module)
    LATE.clear()


def find(name: str) -> Op | None:
    """The op of that name; None where there is none."""
    if name not in OPS and LATE:
        load_late()
    return OPS.get(name)


VARIADIC = 0x04  # co_flags: the function takes *args


class Op:
    """One op: its generic forward, its inputs and keywords, its rules, and what they ask to be saved.

    Options of the decorator:
        ufunc       name of the `xp` function that is the whole forward (the body is then only the docstring)
        broadcasts  inputs broadcast; the engine sums each gradient back to its input's shape
        promote     None: dtypes are the op's own affair. "same": floating, int and bool inputs are promoted to one
                    dtype. "float": the same, and integers become the default float. "equal": dtypes must be equal.
        scalars     a Python number may stand for either input as it is (the rules only multiply, add or compare it)
        holomorphic the rules are the complex derivative; for complex inputs the engine conjugates around them
                    (grad = conj(rule(conj(g))), as PyTorch defines gradients of complex tensors)
        index       names of integer array inputs, which take no part in promotion
        view        the output shares the input's memory
        library     the attribute of the backend, a module, which the forward gets in place of `xp` ("special")
        moves       the output may be an array of another backend
        row_major   the outputs lie in row-major order whatever the inputs' order is, as PyTorch's reductions and joins
                    do; else as the forward gives them
        outputs     names of the outputs where there are several
        aux         names of extra results of the forward, saved for rules and not returned to the caller
        public      a torch function and Tensor method of this very name exists: True, or "inplace" for name_ too;
                    "special": a function of torch.special and nothing else
        grad_name   PyTorch's word for the node ("Mul" is shown as MulBackward0); default from the op's name
    """

    __slots__ = (
        "name", "generic", "ufunc", "broadcasts", "promote", "index", "view", "outputs", "aux", "public", "composite",
        "inputs", "optional", "variadic", "params", "defaults", "rules", "into", "joint", "joint_names", "joint_saves",
        "differentiable", "requests", "grad_name", "fn", "run", "kernels", "vjp", "recorded", "saves_arrays",
        "array_slots", "scalars", "holomorphic", "run_complex", "moves", "row_major", "library",
    )  # fmt: skip

    # set when the op is first called (codegen.prepare)
    differentiable: tuple[str, ...]  # the inputs that have rules, in order: one edge of a node for each
    requests: tuple[str, ...]  # what the rules ask to be saved: the names of node.saved's places
    array_slots: tuple[int, ...]  # which of these places hold arrays
    saves_arrays: bool
    vjp: Any

    def __init__(self, generic: Callable[..., Any], composite: bool = False, **options: Any):
        code = generic.__code__
        count, keyword_count = code.co_argcount, code.co_kwonlyargcount
        names = code.co_varnames
        self.name: str = options.get("name") or generic.__name__.rstrip("_")
        self.generic = generic
        self.composite = composite
        self.ufunc: str | None = options.get("ufunc")
        self.broadcasts: bool = options.get("broadcasts", False)
        self.promote: str | None = options.get("promote")
        self.index: tuple[str, ...] = options.get("index", ())
        self.view: bool = options.get("view", False)
        self.outputs: tuple[str, ...] = options.get("outputs", ())
        self.aux: tuple[str, ...] = options.get("aux", ())
        self.public: Any = options.get("public", False)
        self.inputs: tuple[str, ...] = names[1:count]
        self.optional = self.inputs[len(self.inputs) - len(generic.__defaults__ or ()) :]
        self.params: tuple[str, ...] = names[count : count + keyword_count]
        self.defaults: dict[str, Any] = generic.__kwdefaults__ or {}
        self.variadic: str | None = names[count + keyword_count] if code.co_flags & VARIADIC else None
        self.rules: dict[str, Callable[..., Any]] = {}
        self.into: dict[str, Callable[..., Any]] = {}
        self.joint: Callable[..., Any] | None = None
        self.joint_names: tuple[str, ...] = ()
        self.joint_saves: dict[str, str] = {}
        words = options.get("grad_name") or "".join(word[:1].upper() + word[1:] for word in self.name.split("_"))
        self.grad_name: str = words if words[-1:].isdigit() or words == "CopySlices" else words + "Backward0"
        self.scalars: bool = options.get("scalars", False)
        self.moves: bool = options.get("moves", False)
        self.library: str | None = options.get("library")
        self.row_major: bool = options.get("row_major", False)
        self.holomorphic: bool = options.get("holomorphic", False)
        self.run_complex: Any = None
        self.recorded: Any = None  # the vjp function on tensors, written at its first use
        self.kernels = Kernels(self)
        self.fn: Any = None
        self.run: Any = None

    def add_rules(self, **rules: Callable[..., Any]) -> None:
        """One rule per differentiable input: rule(F, g, *, saved...) -> gradient (of the broadcast shape)."""
        for name in rules:
            if name not in self.inputs and name != self.variadic:
                raise TypeError(f"op {self.name} has no input '{name}'; its inputs are {self.inputs}")
        self.rules.update(rules)

    def add_into_rules(self, **rules: Callable[..., Any]) -> None:
        """For an input whose rule makes a new, mostly empty array: rule(held, g, *, saved...) adds g into `held`.

        So the gradients of T reads of parts of one tensor cost the parts, not T times the whole.
        """
        self.into.update(rules)

    def add_joint_rule(self, *names_and_rule: Any, **only_for: str) -> None:
        """One rule for several inputs: rule(F, g, needs, *, saved...) -> a gradient per name, None where not needed.

        Inputs not named have rules of their own. only_for: x="w" saves x only where w's gradient is needed.
        """
        *names, rule = names_and_rule
        self.joint_names, self.joint, self.joint_saves = tuple(names), rule, only_for

    def vjp_graph(self, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        """The rules run on recorded tensors, so that the next order can be taken."""
        if self.recorded is None:
            from .codegen import recorded_rules

            self.recorded = recorded_rules(self)
        self.recorded(node, g, F, grads)

    def saved_arrays(self, node: Any) -> list[tuple[str, Any]]:
        """(name, array) of each array that the node keeps."""
        found = []
        for slot in self.array_slots:
            value = node.saved[slot]
            for item in value if type(value) is tuple else (value,):
                if hasattr(item, "shape") and hasattr(item, "base"):
                    found.append((self.requests[slot], item))
        return found

    def saved_value(self, node: Any, name: str) -> Any:
        """What `grad_fn._saved_NAME` shows: PyTorch's names self, other, result, or the op's own."""
        from .codegen import saved_as_tensor

        names = {"result": "out", "self": self.inputs[0], "other": self.inputs[1] if len(self.inputs) > 1 else "y"}
        name = names.get(name, name)
        if name not in self.requests:
            raise AttributeError(f"{self.grad_name} saves {self.requests}, not '{name}'")
        return saved_as_tensor(self, node, name)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Holomorphic:
    """An op's stand-in in nodes of complex values: its rules between two conjugations."""

    def __init__(self, op: Op):
        self.op = op

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    def vjp(self, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._between(self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._between(self.op.vjp_graph, node, g, F, grads)

    def _between(self, vjp: Any, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        own: dict[Any, Any] = {edge: None for edge in node.edges if edge in grads}
        own[OWNED] = set()
        vjp(node, F.conj(g), F, own)
        del own[OWNED]
        for edge, r in own.items():
            if r is not None:
                held = grads[edge]
                grads[edge] = F.conj(r) if held is None else held + F.conj(r)


class Kernels(dict[type, Any]):
    """Array type -> the function that computes this op on it; linked at first use.

    The one for the host's arrays is besides held in globals of the record functions (`on_host`), for which they need
    no look-up: H_NAME. Where the op is a function of the array library, that may be called itself for small arrays:
    the kernel's attribute `below` is (function, number of elements), which S_NAME and N_NAME hold.
    """

    def __init__(self, op: Op):
        super().__init__()
        self.op = op
        self.on_host: Any = None  # (the record functions' globals, the host's type), once they are written

    def __setitem__(self, array_type: type, kernel: Any) -> None:
        super().__setitem__(array_type, kernel)
        if self.on_host is not None and array_type is self.on_host[1]:
            self.show(kernel)

    def show(self, kernel: Any) -> None:
        """Puts the host's kernel into the record functions' globals."""
        shown, name = self.on_host[0], self.op.name
        shown["H_" + name] = kernel
        shown["S_" + name], shown["N_" + name] = getattr(kernel, "below", (kernel, 0))

    def __missing__(self, array_type: type) -> Any:
        kernel = getattr(raw_namespace(array_type), self.op.name)
        self[array_type] = kernel
        return kernel


class Raw:
    """The raw namespace `F` of a backend: every op's kernel as an attribute, linked at first use.

    A kernel is, in this order: the backend's own of that name, `xp`'s function where the op is just that, or the
    generic forward bound to `xp` (for a composite: its body bound to this namespace).
    """

    recording = False

    def __init__(self, backend: Any):
        self.backend = backend
        self.xp = backend.xp

    def __getattr__(self, name: str) -> Any:
        op = find(name)
        if op is None:
            raise AttributeError(f"no op named '{name}'")
        kernel = kernels_of(self.backend).get(name)
        if kernel is None or getattr(kernel, "may_decline", False):
            if op.ufunc is not None:
                generic = getattr(self.xp, op.ufunc)
            else:
                module = getattr(self.backend, op.library) if op.library else self.xp
                generic = bind_first(op.generic, self if op.composite else module)
            kernel = generic if kernel is None else first_of(kernel, generic)
        if self.backend.several and op.row_major:
            kernel = _in_rows(kernel)
        kernel = self.backend.linked(name, kernel)
        if self.backend.loses_type and not op.moves:
            kernel = _tidied(kernel, self.backend.tidy)
        setattr(self, name, kernel)
        return kernel


def _tidied(kernel: Callable[..., Any], tidy: Callable[[Any], Any]) -> Callable[..., Any]:
    """The kernel with its results made arrays of the backend."""

    def kept(*arrays: Any, **kw: Any) -> Any:
        out = kernel(*arrays, **kw)
        if isinstance(out, tuple):
            return tuple(tidy(o) if hasattr(o, "dtype") else o for o in out)
        return tidy(out) if hasattr(out, "dtype") else out

    return kept


def _in_rows(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel with its results in row-major order, for which the record function would copy on any device."""

    def rowed(*arrays: Any, **kw: Any) -> Any:
        out = kernel(*arrays, **kw)
        found = [o if not hasattr(o, "flags") or o.flags.c_contiguous else o.copy() for o in _listed(out)]
        return tuple(found) if isinstance(out, tuple) else found[0]

    return rowed


def _listed(out: Any) -> tuple[Any, ...]:
    return out if isinstance(out, tuple) else (out,)


def bind_first(function: Callable[..., Any], value: Any) -> Callable[..., Any]:
    """`function` with its first argument fixed, as a bound method is: cheaper to call than functools.partial."""
    return types.MethodType(function, value)


_raw: dict[Any, Raw] = {}


class _RawByType(dict[type, Raw]):
    def __missing__(self, array_type: type) -> Raw:
        backend = backend_of_type(array_type)
        found = _raw.get(backend)
        if found is None:
            found = _raw[backend] = Raw(backend)
        self[array_type] = found
        return found


raw_by_type = _RawByType()


def raw_namespace(array_type: type) -> Raw:
    """The raw namespace that serves arrays of this type."""
    return raw_by_type[array_type]


class Graph:
    """The recording namespace: every op's recording function, and each composite's body over this namespace."""

    recording = True

    def __getattr__(self, name: str) -> Any:
        op = find(name)
        if op is None:
            raise AttributeError(f"no op named '{name}'")
        value = bind_first(op.generic, self) if op.composite else op.fn
        setattr(self, name, value)
        return value


GRAPH = Graph()

def _stub_code(*args: Any, op_name: str = "", **kwargs: Any) -> Any:
    return materialise(op_name)(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821  (in ENVIRONMENT)


def _stub(op: Op) -> Any:
    """A function object which, when first called, is given the op's record function as its code."""
    from .codegen import ENVIRONMENT

    function = types.FunctionType(_stub_code.__code__, ENVIRONMENT, op.name)
    function.__kwdefaults__ = {"op_name": op.name}
    function.__module__, function.__doc__ = op.generic.__module__, op.generic.__doc__
    if op.public and op.inputs in _PROTOTYPES:
        function.__wrapped__ = _PROTOTYPES[op.inputs]  # type: ignore[attr-defined]  # for inspect.signature
    return function


def _unary(input: Any, *, out: Any = None) -> Any: ...
def _binary(input: Any, other: Any, *, out: Any = None) -> Any: ...
def _step(input: Any, values: Any, *, out: Any = None) -> Any: ...


# What inspect.signature shows of a public op, whose code is not written before the first call.
_PROTOTYPES = {("x",): _unary, ("x", "y"): _binary, ("x", "values"): _step}


def op(generic: Any = None, **options: Any) -> Any:
    """Makes a primitive op of a generic forward; see the module's text and Op for the options."""
    if generic is None:
        return lambda function: op(function, **options)
    made = Op(generic, **options)
    if made.name in OPS:
        raise ValueError(f"op {made.name} is defined twice")
    OPS[made.name] = made
    function = made.fn = _stub(made)
    function.op = made
    function.vjp = made.add_rules
    function.vjp_joint = made.add_joint_rule
    function.vjp_into = made.add_into_rules
    return function


def composite(body: Any) -> Any:
    """A function of `F` made of other ops: no rule of its own; a backend may serve it by one fused kernel."""
    made = Op(body, composite=True)
    if made.name in OPS:
        raise ValueError(f"op {made.name} is defined twice")
    OPS[made.name] = made
    body.op = made
    made.fn = bind_first(body, GRAPH)
    return body
