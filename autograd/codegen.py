"""The record and vjp functions of each op, written out as source from its signature and its rules' parameter names.

As `dataclasses` writes `__init__`. The source is put into linecache, so a debugger steps into it. For `mul`:

    def mul(input, other, *, out=None):             record: guard for the usual case, kernel, Node if anybody asks
    def vjp(n, g, F, grads):                        backward: one rule per edge that is wanted

All functions share one dictionary of globals, ENVIRONMENT. What a guard turns away (a Python scalar, a dtype to be
promoted, an integer for a floating op, arrays of two devices) goes to coerce.slow, which repairs it and calls the
op's `run` function: the same without the guard.
"""

from __future__ import annotations

import functools
import linecache
import threading
from types import FunctionType
from typing import Any

from ..backends.registry import backend_of
from . import coerce
from .device import device_of
from .dtypes import F32, F64
from .graph import OUTPUT, OWNED, Node, numbers, output_node, show_saved
from .large import LARGE, large_vjp
from .modes import mode, shared
from .op import OPS, Holomorphic, Op
from .views import link_view

ENVIRONMENT: dict[str, Any] = shared
HOST = coerce.np.ndarray


def unbroadcast(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """`g` summed back to the shape that an input had before broadcasting."""
    return g if g.shape == shape else F.sum_to(g, shape=shape)


def add_gradient(held: Any, g: Any, edge: Any, grads: dict[Any, Any]) -> Any:
    """A further gradient for one edge: the first sum is a new array, later ones are added into it."""
    owned = grads[OWNED]
    if edge in owned:
        held += g
        return held
    owned.add(edge)
    return held + g


def raise_freed(node: Node) -> None:
    raise RuntimeError(
        "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
        "been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). "
        "Specify retain_graph=True if you need to backward through the graph a second time or if you need to access "
        f"saved tensors after calling backward. (the node is {node.name()})"
    )


def materialise(name: str) -> Any:
    """Gives the op's function object its code; called by the stub on the first call."""
    op = OPS[name]
    with _lock:
        if op.run is None:
            prepare(op)
            made = _define(op, name, _record_source(op, name, guard=True))
            if op.holomorphic:
                source = _record_source(op, "run_complex_" + name, guard=False)
                source = source.replace(f"n.op = OP_{name};", f"n.op = HOP_{name};")
                op.run_complex = _define(op, "run_complex_" + name, source)
            op.run = _define(op, "run_" + name, _record_source(op, "run_" + name, guard=False))
            # the code last, since other threads may call the function from then on without passing here
            op.fn.__defaults__, op.fn.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
            op.fn.__code__ = made.__code__
    return op.fn


_lock = threading.RLock()


def prepare(op: Op) -> None:
    """Works out what the rules ask to be saved, and defines the op's vjp function and the names its sources use."""
    env = ENVIRONMENT
    requests: list[str] = []
    rules = {**op.rules, **({"joint": op.joint} if op.joint else {})}
    for rule in rules.values():
        for request in _requests_of(rule):
            if request not in requests:
                requests.append(request)
    op.requests = tuple(requests)
    show_saved(requests)
    clash = _RESERVED & {*op.inputs, *op.params, *op.aux, op.variadic}
    if clash:
        raise TypeError(f"op {op.name}: {sorted(clash)} are names of the generated code's own; choose others")
    arrays = {*op.inputs, "out", *op.aux, op.variadic}
    op.array_slots = tuple(i for i, r in enumerate(requests) if r in arrays)
    op.saves_arrays = bool(op.array_slots)
    op.differentiable = tuple(n for n in (*op.inputs, *([op.variadic] if op.variadic else [])) if n in _ruled(op))
    env["K_" + op.name], env["OP_" + op.name] = op.kernels, op
    op.kernels.on_host = (env, HOST)
    op.kernels.show(op.kernels.get(HOST) or functools.partial(_link_and_run, op.kernels))
    if op.holomorphic:
        env["HOP_" + op.name] = Holomorphic(op)
    for name, rule in rules.items():
        env[f"R_{op.name}_{name}"] = _positional(rule)
    for name, rule in op.into.items():
        env[f"I_{op.name}_{name}"] = _positional(rule)
    if op.differentiable:
        op.vjp = _define(op, "vjp_" + op.name, _vjp_source(op))
    if op.scalars:
        for suffix, scalar in (("ts", op.inputs[1]), ("st", op.inputs[0])):
            name = f"{suffix}_{op.name}"
            env[name] = _define(op, name, _record_source(op, name, guard=False, scalar=scalar))


def _link_and_run(kernels: Any, *arrays: Any, **kw: Any) -> Any:
    """What stands for an op's kernel for the host's arrays before its first use."""
    return kernels[HOST](*arrays, **kw)


def _positional(rule: Any) -> Any:
    """The rule with what is saved for it as positional arguments, in their order: the faster call."""
    code = rule.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    if not code.co_kwonlyargcount or rule.__defaults__:
        return rule
    code = code.replace(co_argcount=count, co_kwonlyargcount=0)
    return FunctionType(code, rule.__globals__, rule.__name__, None, rule.__closure__)


# Locals of the generated functions, which an op's arguments may not be called.
_RESERVED = {"n", "m", "o", "cls", "dt", "t0", "mode", "new", "numbers", "slow", "into", "explain", "tidy", "mixed"}


def _ruled(op: Op) -> tuple[str, ...]:
    return (*op.joint_names, *op.rules)


def _requests_of(rule: Any) -> tuple[str, ...]:
    code = rule.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


def _define(op: Op, name: str, source: str) -> Any:
    file = f"<tapegrad op {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    scope: dict[str, Any] = {}
    exec(compile(source, file, "exec"), ENVIRONMENT, scope)
    return scope[name]


def _record_source(op: Op, name: str, guard: bool, scalar: str | None = None) -> str:
    """The source of the record function; `scalar` names an input which is a Python number here."""
    public = {"x": "input", "y": "other"} if op.public else {}
    arg = {n: public.get(n, n) for n in op.inputs}
    arguments = [arg[n] + ("=None" if n in op.optional else "") for n in op.inputs]
    tail = [f"{p}={op.defaults[p]!r}" if p in op.defaults else p for p in op.params]
    with_out = guard and op.public and len(op.outputs) == 0 and not op.view
    keywords = tail + (["out=None"] if with_out else [])
    star = ["*" + op.variadic] if op.variadic else (["*"] if keywords else [])
    lines = [f"def {name}({', '.join([*arguments, *star, *keywords])}):"]
    call = ", ".join([*arg.values(), *(["*" + op.variadic] if op.variadic else [])])
    kw = "{" + ", ".join(f"'{p}': {p}" for p in op.params) + "}"
    slow = f"return slow(OP_{op.name}, ({call},), {kw})"
    if with_out:
        lines.append(f"    if out is not None: return into(out, {op.name!r}, OP_{op.name}.fn({call}))")
    data = {n: f"d_{n}" for n in op.inputs}
    tensors = [n for n in op.inputs if n != scalar]
    reads = []
    for n in op.inputs:
        read = arg[n] if n == scalar else f"{arg[n]}.array"
        reads.append(f"{data[n]} = " + (f"None if {arg[n]} is None else {read}" if n in op.optional else read))
    if op.variadic:
        reads.append(f"d_{op.variadic} = tuple([v.array for v in {op.variadic}])")
    first = data[tensors[0]] if tensors else f"d_{op.variadic}[0]"
    if guard:
        lines += _guard_lines(op, arg, data, reads, slow)
    else:
        lines += ["    " + r for r in reads]
    if scalar:  # NumPy takes a 0-d array faster than a Python number
        number = data[scalar]
        lines.append(f"    if {first}.__class__ is HOST: {number} = (S32 if {first}.dtype is F32 else S64)[{number}]")
    lines += _kernel_lines(op, data, first, kw)
    lines += _node_lines(op, arg, data, scalar)
    return "\n".join(lines) + "\n"


def _guard_lines(op: Op, arg: dict[str, str], data: dict[str, str], reads: list[str], slow: str) -> list[str]:
    lines = []
    names = list(op.inputs)
    if op.scalars:
        x, y = arg[names[0]], arg[names[1]]
        lines += [
            f"    if {y}.__class__ is not Tensor and ({y}.__class__ is float or {y}.__class__ is int):",
            f"        try: dt = {x}.array.dtype",
            f"        except AttributeError: {slow}",
            f"        if dt is F32 or dt is F64: return ts_{op.name}({x}, {y})",
            f"        {slow}",
        ]
    lines += ["    try:", *["        " + r for r in reads], f"    except AttributeError: {slow}"]
    checks = []
    if names:
        d0 = data[names[0]]
        typed = [n for n in names if n not in op.index]
        first = data[typed[0]] if typed else d0
        for n in names[1:]:
            maybe = f"{data[n]} is not None and " if n in op.optional else ""
            checks.append(f"({maybe}{data[n]}.__class__ is not {d0}.__class__)")
            if op.promote and n in typed[1:]:
                checks.append(f"({maybe}{data[n]}.dtype is not dt)")
        if op.variadic:
            checks.append(f"mixed({d0}, d_{op.variadic}, {op.promote is not None and op.variadic not in op.index})")
        if op.promote and (len(typed) > 1 or op.promote == "float") or op.holomorphic:
            lines.append(f"    dt = {first}.dtype")
        if op.promote == "float" or op.holomorphic:
            checks.append("(dt is not F32 and dt is not F64)")
    elif op.variadic:
        checks.append(f"not d_{op.variadic} or mixed(d_{op.variadic}[0], d_{op.variadic}, {op.promote is not None})")
    if checks:
        lines.append(f"    if {' or '.join(checks)}: {slow}")
    return lines


def _kernel_lines(op: Op, data: dict[str, str], first: str, kw: str) -> list[str]:
    arrays = [*data.values(), *([f"*d_{op.variadic}"] if op.variadic else [])]
    call = ", ".join([*arrays, *[f"{p}={p}" for p in op.params]])
    shown = "(" + ", ".join(arrays) + ",)"
    results = [f"o_{n}" for n in op.outputs] or ["o"]
    results += [f"a_{n}" for n in op.aux]
    target = ", ".join(results)
    host = f"H_{op.name}"
    if op.ufunc:
        host = f"(S_{op.name} if {first}.size < N_{op.name} else {host})"
    lines = [
        f"    cls = {first}.__class__",
        f"    try: {target} = ({host} if cls is HOST else K_{op.name}[cls])({call})",
        f"    except Exception as error: raise explain(OP_{op.name}, error, {shown}, {kw})",
    ]
    for r in results:
        if r[0] == "o" and not op.moves:
            lines.append(f"    if {r}.__class__ is not cls: {r} = to_array({r}) if cls is HOST else tidy({first}, {r})")
        if r[0] == "o" and op.row_major:
            lines.append(f"    if not {r}.flags.c_contiguous: {r} = {r}.copy()")
    return lines


def _node_lines(op: Op, arg: dict[str, str], data: dict[str, str], scalar: str | None) -> list[str]:
    diff = [n for n in op.differentiable if n != scalar]
    lines = []
    outs = [f"o_{n}" for n in op.outputs] or ["o"]
    tensors = [f"t{i}" for i in range(len(outs))]
    for t, o in zip(tensors, outs, strict=True):
        lines.append(f"    {t} = new(Tensor); {t}.array = {o}" + ("" if op.view else f"; {t}._view = None"))
    if diff:
        wants = []
        for n in diff:
            if n == op.variadic:
                wants.append(f"any([v._rg for v in {n}])")
            elif n in op.optional:
                wants.append(f"({arg[n]} is not None and {arg[n]}._rg)")
            else:
                wants.append(f"{arg[n]}._rg")
        lines.append(f"    if ({' or '.join(wants)}) and (m := mode.grad if switched else True):")
        lines += ["        " + line for line in _make_node_lines(op, arg, data, diff, wants, scalar)]
        if op.outputs:
            lines.append(f"        attach_outputs(n, ({', '.join(tensors)},))")
        else:
            lines.append("        t0._rg = True; t0._node = n")
        lines.append(f"        if m is not True: m.recorded(n, ({', '.join(tensors)},))")
        lines.append("    else:")
    pad = "        " if diff else "    "
    for t in tensors:
        lines.append(f"{pad}{t}._rg = False; {t}._node = None")
    lines.append(f"{pad}if inference_blocks: mark_inference({', '.join(tensors)})")
    if op.view:
        keywords = ", ".join(f"'{p}': {p}" for p in op.params)
        lines.append(f"    link_view({arg[op.inputs[0]]}, t0, {op.name!r}, {{{keywords}}})")
    lines.append("    return t0" if not op.outputs else f"    return ({', '.join(tensors)},)")
    return lines


def _make_node_lines(
    op: Op, arg: dict[str, str], data: dict[str, str], diff: list[str], wants: list[str], scalar: str | None
) -> list[str]:
    lines = [f"n = Node(); n.op = OP_{op.name}; n.seq = next(numbers)"]
    edges = []
    for n, want in zip(diff, wants, strict=True):
        if n == op.variadic:
            edges.append(f"*[(v._node or v) if v._rg else None for v in {n}]")
        elif len(diff) == 1:
            edges.append(f"{arg[n]}._node or {arg[n]}")
        else:
            lines.append(f"e_{n} = ({arg[n]}._node or {arg[n]}) if {want} else None")
            edges.append(f"e_{n}")
    if scalar in op.differentiable:
        edges.insert(op.differentiable.index(scalar), "None")
    lines.append(f"n.edges = ({', '.join(edges)},)")
    saved = [_saved_source(op, r, data, diff) for r in op.requests]
    if op.broadcasts:
        ds = list(data.values())
        if scalar is not None:
            saved.append("None")
        else:
            same = " and ".join(f"{ds[0]}.shape == {d}.shape" for d in ds[1:])
            saved.append(f"None if {same} else ({', '.join(d + '.shape' for d in ds)})")
    lines.append(f"n.saved = ({', '.join(saved)}{',' if saved else ''})")
    return lines


def _saved_source(op: Op, request: str, data: dict[str, str], diff: list[str]) -> str:
    """The expression for one saved value: None where only rules of unwanted gradients ask for it."""
    if request == "out":
        return "o" if not op.outputs else "(" + ", ".join(f"o_{n}" for n in op.outputs) + ",)"
    if request in op.aux:
        return f"a_{request}"
    if request in op.params:
        return request
    name, _, attribute = request.rpartition("_")
    if attribute == "device" and name in data:
        return f"device_of({data[name]})"
    if attribute in ("shape", "dtype", "shapes", "dtypes") and (name in data or f"{name}" == op.variadic):
        if name == op.variadic:
            return f"tuple([d.{attribute[:5]} for d in d_{name}])"
        value = f"{data[name]}.{attribute}"
        return f"None if {data[name]} is None else {value}" if name in op.optional else value
    if request == op.variadic:
        return f"d_{request}"
    if request not in data:
        raise TypeError(
            f"a rule of op {op.name} asks for '{request}', which is no input, keyword or auxiliary of it "
            f"(inputs {op.inputs}, keywords {op.params}, aux {op.aux})"
        )
    if op.variadic in op.differentiable:
        return data[request]
    users = [n for n, rule in op.rules.items() if n in diff and request in _requests_of(rule)]
    if op.joint and request in _requests_of(op.joint):
        users += [n for n in op.joint_names if op.joint_saves.get(request, n) == n]
    if not users:
        return "None"  # only the rule of an input that is a number here asks for it
    if set(users) >= set(diff):
        return data[request]
    return f"{data[request]} if {' or '.join(f'e_{u} is not None' for u in users)} else None"


def _vjp_source(op: Op, recorded: bool = False) -> str:
    """The source of the vjp function; `recorded`: for tensors and F = GRAPH, else for arrays."""
    lines = [f"def vjp_{'graph_' * recorded}{op.name}(n, g, F, grads):"]
    names = [*op.requests, *(["shapes"] if op.broadcasts else [])]
    if not recorded and (steps := _large_steps(op)):
        ENVIRONMENT["L_" + op.name] = (op, steps)
        lines.append(f"    if g.__class__ is HOST and g.size >= {LARGE}: return large_vjp(L_{op.name}, n, g, F, grads)")
    if names:
        lines.append("    saved = n.saved")
        if op.saves_arrays:
            lines.append("    if saved is None: raise_freed(n)")
        lines.append(f"    ({', '.join('s_' + r for r in names)},) = saved")
    fixed = [n for n in op.differentiable if n != op.variadic]
    many = op.variadic in op.differentiable
    targets = [f"e_{n}" for n in fixed] + (["*rest"] if many else [])
    lines.append(f"    ({', '.join(targets)},) = n.edges")
    for r in [op.requests[slot] for slot in op.array_slots] if recorded else ():
        lines.append(f"    s_{r} = " + (f"tied(s_{r}, e_{r})" if r in fixed else f"as_tensor(OP_{op.name}, n, {r!r})"))
    add = "F.add({0}, {1})" if recorded else "add_gradient({0}, {1}, {2}, grads)"
    if op.joint is not None:
        needs = ", ".join(f"e_{n} in grads" for n in op.joint_names)
        results = ", ".join(f"r_{n}" for n in op.joint_names)
        some = "" if set(op.joint_names) == set(fixed) else "if True in needs: "
        lines += [
            f"    needs = ({needs},)",
            f"    {some}({results},) = R_{op.name}_joint(F, g, needs{_passed(op.joint)})",
        ]
    for n in fixed:
        lines.append(f"    if e_{n} in grads:")
        last = n == fixed[-1] and not many
        lines += _into_lines(op, n) if n in op.into and not recorded else _input_lines(op, n, recorded, last)
    if many:
        lines += [
            "    for i, e in enumerate(rest):",
            "        if e in grads:",
            f"            r = R_{op.name}_{op.variadic}(F, g, i{_passed(op.rules[op.variadic or ''])})",
            "            held = grads[e]",
            f"            grads[e] = r if held is None else {add.format('held', 'r', 'e')}",
        ]
    return "\n".join(lines) + "\n"


def _large_steps(op: Op) -> tuple[Any, ...] | None:
    """What large.vjp is told: for each differentiable input its place, its rule if written out, and where it reads."""
    if op.joint is not None or op.variadic or op.into or not op.differentiable:
        return None
    rules = [_short_rule(op.rules[n]) for n in op.differentiable]
    if all(rule in (None, "g") for rule in rules) or any(op.rules[n].__defaults__ for n in op.differentiable):
        return None
    if rules == ["g", "-g"]:  # a difference: too little is gained for what each small one would pay for being asked
        return None
    steps = []
    for n, short in zip(op.differentiable, rules, strict=True):
        slots = tuple([op.requests.index(r) for r in _requests_of(op.rules[n])])
        steps.append((op.inputs.index(n), short[:3] if short else _positional(op.rules[n]), slots))
    return tuple(steps)


def _input_lines(op: Op, n: str, recorded: bool, last: bool) -> list[str]:
    """One input's gradient, added to the table; `last`: nothing follows."""
    lines = []
    if n not in op.joint_names:
        rule = _rule_call(op, n)
        if rule == "-g" and last and not recorded:  # into a sum of the walk's own in one step
            whole = "s_shapes is None and " * op.broadcasts
            lines += [
                f"        held = grads[e_{n}]",
                f"        if {whole}held.__class__ is g.__class__ and e_{n} in grads['{OWNED}']:",
                f"            held -= g; grads[e_{n}] = held",
                "            return",
            ]
        lines.append(f"        r_{n} = {rule}")
    if op.broadcasts:
        place = op.inputs.index(n)
        lines.append(f"        if s_shapes is not None: r_{n} = unbroadcast(F, r_{n}, s_shapes[{place}])")
    lines += [f"        held = grads[e_{n}]", "        if held is not None:"]
    if recorded:
        lines.append(f"            r_{n} = held if r_{n} is None else F.add(held, r_{n})")
    else:
        lines += [
            f"            if e_{n} in grads['{OWNED}']: held += r_{n}; r_{n} = held",
            f"            else: r_{n} = add_gradient(held, r_{n}, e_{n}, grads)",
        ]
    lines.append(f"        grads[e_{n}] = r_{n}")
    return lines


# The shortest rules: what they compute, by (their number of parameters, their byte code).
_SHORT = {
    (rule.__code__.co_nlocals, rule.__code__.co_code): source
    for rule, source in (
        (lambda F, g: g, "g"),
        (lambda F, g: -g, "-g"),
        (lambda F, g, *, s: g * s, "g * s_{}"),
        (lambda F, g, *, s: g / s, "g / s_{}"),
    )
}

_CALL = (lambda F, g, *, s: F.name(g, s)).__code__.co_code


def _short_rule(rule: Any) -> str | None:
    """The rule's expression, where it is one of the shortest and reads nothing but g and what is saved for it."""
    code = rule.__code__
    plain = not (code.co_argcount > 2 or code.co_names or code.co_freevars or rule.__defaults__)
    if not plain or code.co_varnames[:2] != ("F", "g"):
        return None
    found = _SHORT.get((code.co_nlocals, code.co_code))
    return None if found is None else found.format(*_requests_of(rule))


def _rule_call(op: Op, n: str) -> str:
    """The expression for one rule's result; the shortest rules, and those that are one call of F, are written out."""
    rule = op.rules[n]
    code = rule.__code__
    if code.co_varnames[:2] == ("F", "g") and code.co_code == _CALL and not rule.__defaults__:
        return f"F.{code.co_names[0]}(g, s_{code.co_varnames[2]})"
    return _short_rule(rule) or f"R_{op.name}_{n}(F, g{_passed(rule)})"


def _into_lines(op: Op, n: str) -> list[str]:
    """A gradient that the walk owns is added into; else the rule's result, which is new memory, becomes it."""
    return [
        f"        held, owned = grads[e_{n}], grads['{OWNED}']",
        f"        if held is not None and e_{n} in owned: I_{op.name}_{n}(held, g{_passed(op.into[n])})",
        "        else:",
        f"            r_{n} = R_{op.name}_{n}(F, g{_passed(op.rules[n])})",
        f"            if held is not None: r_{n} += held",
        f"            owned.add(e_{n})",
        f"            grads[e_{n}] = r_{n}",
    ]


def _passed(rule: Any) -> str:
    word = "{0}=s_{0}" if rule.__defaults__ else "s_{0}"
    return "".join(", " + word.format(r) for r in _requests_of(rule))


def saved_as_tensor(op: Op, node: Node, request: str) -> Any:
    """A saved value as the rules see it when recording: arrays as tensors tied to the edge they came from."""
    if node.saved is None:
        raise_freed(node)
    value = node.saved[op.requests.index(request)]
    if op.requests.index(request) not in op.array_slots or value is None or isinstance(value, (int, float)):
        return value
    tensor_of = ENVIRONMENT["tensor_of_edge"]
    if request == "out":
        if op.outputs:
            nodes = [output_node(node, len(value), i) for i in range(len(value))]
            return tuple(tensor_of(v, e if v.dtype.kind in "fc" else None) for v, e in zip(value, nodes, strict=True))
        return tensor_of(value, node)
    if request == op.variadic:
        tied = request in op.differentiable
        edges = node.edges[len(op.differentiable) - 1 :] if tied else [None] * len(value)
        return tuple(tensor_of(v, e) for v, e in zip(value, edges, strict=True))
    edge = node.edges[op.differentiable.index(request)] if request in op.differentiable else None
    return tensor_of(value, edge)


def recorded_rules(op: Op) -> Any:
    """Op.vjp_graph, written out: the rules on tensors, for create_graph=True."""
    return _define(op, "vjp_graph_" + op.name, _vjp_source(op, recorded=True))


def _tied(value: Any, edge: Any) -> Any:
    """A saved input as a tensor with its history."""
    if value is None or value.__class__ is float or value.__class__ is int:
        return value
    return ENVIRONMENT["tensor_of_edge"](value, edge)


def _attach_outputs(node: Node, tensors: tuple[Any, ...]) -> None:
    """Ties each floating output of a node with several to its own output node."""
    count, edges = len(tensors), (node,)
    for i, t in enumerate(tensors):
        dt = t.array.dtype
        if dt is F32 or dt is F64 or dt.kind in "fcV":
            made = Node()  # as graph.output_node does
            made.op, made.seq, made.edges, made.saved = OUTPUT, next(numbers), edges, (count, i)
            t._rg, t._node = True, made
        else:
            t._rg, t._node = False, None


def _device_of(array: Any) -> Any:
    return device_of(array, backend_of(array))


def _mark_inference(*tensors: Any) -> None:
    if mode.inference:
        for t in tensors:
            t._inference = True


ENVIRONMENT.update(
    device_of=_device_of,
    __name__=__name__, __package__=__package__, new=object.__new__, Node=Node, numbers=numbers, mode=mode,
    F32=F32, F64=F64, HOST=HOST, S32=coerce.S32, S64=coerce.S64,
    slow=coerce.slow, into=coerce.into,
    explain=coerce.explain, mixed=coerce.mixed, tidy=coerce.tidy, to_array=coerce.np.asarray,
    unbroadcast=unbroadcast, add_gradient=add_gradient, large_vjp=large_vjp,
    raise_freed=raise_freed, as_tensor=saved_as_tensor, tied=_tied, materialise=materialise,
    link_view=link_view, attach_outputs=_attach_outputs,
    mark_inference=_mark_inference,
)  # fmt: skip
