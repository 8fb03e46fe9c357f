"""torch.profiler: what is seen, how it is summed and written, and that nothing is left behind."""

from __future__ import annotations

import gzip
import json
import threading

import pytest
import tapegrad
from tapegrad import nn
from tapegrad.autograd import codegen, watch
from tapegrad.autograd.op import OPS, Op, Raw, _raw
from tapegrad.autograd.profiler_util import EventList, FunctionEvent
from tapegrad.profiler import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


def step(net, optimizer=None):
    target = tapegrad.tensor([0, 2])
    with record_function("forward"):
        loss = nn.functional.cross_entropy(net(tapegrad.ones(2, 4)), target)
    loss.backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


def names(prof):
    return [event.name for event in prof.events()]


def test_a_training_step():
    """Ops in parts, kernels in nodes, forward and backward joined, shapes, FLOPs, bytes, lines."""
    net = Net()
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True, profile_memory=True, with_stack=True
    ) as prof:
        step(net, tapegrad.optim.SGD(net.parameters(), lr=0.1))
    events = prof.events()
    forward = [e for e in events if e.cpu_parent is not None and e.cpu_parent.name == "forward"]
    assert [e.name for e in forward] == ["linear", "gelu", "linear", "cross_entropy"]
    assert forward[0].input_shapes == [[2, 4], [8, 4], [8]]
    assert [e.flops for e in forward] == [2 * 2 * 4 * 8, None, 2 * 2 * 8 * 3, None]
    assert [e.self_cpu_memory_usage for e in forward[:3]] == [64, 64, 24]
    assert forward[0].stack[0].startswith(f"{__file__}(") and forward[0].stack[0].endswith(": forward")
    assert "(" in forward[0].stack[1] and forward[0].stack[1].endswith(": step")
    nodes = {e.sequence_nr: e for e in events if e.kind == "backward"}
    assert [nodes[e.sequence_nr].name for e in forward] == [
        "AddmmBackward0", "GeluBackward0", "AddmmBackward0", "NllLossBackward0"
    ]  # fmt: skip
    inside = [child.name for child in nodes[forward[1].sequence_nr].cpu_children]
    assert inside == ["gelu_backward"]
    part = next(e for e in events if e.name == "forward")
    assert part.cpu_memory_usage == sum(e.self_cpu_memory_usage for e in forward) and part.self_cpu_memory_usage == 0
    assert "Optimizer.step#SGD.step" in names(prof)
    # a matrix product within an op that has a formula is that op's
    with tapegrad.utils.flop_counter.FlopCounterMode(display=False) as counter:
        step(net)
    assert prof.key_averages().total_average().flops == counter.get_total_flops()


def test_in_place_writes_are_seen():
    """The direct ones, which call no op, and those that are an op and a copy; by PyTorch's names."""
    x = tapegrad.zeros(3)
    y = tapegrad.ones(3, requires_grad=True) * 2
    with profile(record_shapes=True) as prof:
        x.add_(1.0)
        x *= x
        x[0] = 3.0
        x.zero_().fill_(2.0)
        x.copy_(tapegrad.ones(3))
        y.relu_()
    found = names(prof)
    wanted = ["add_", "mul_", "index_put_", "zero_", "fill_", "copy_", "relu_"]
    assert [name for name in found if name in wanted] == wanted
    (inner,) = [
        e for e in prof.events() if e.cpu_parent is not None and e.cpu_parent.name == "relu_" and e.name == "relu"
    ]
    assert inner.input_shapes == [[3]]
    assert prof.events()[0].input_shapes == [[3], []]


def test_first_calls_later_orders_and_own_functions():
    """A node whose op is met for the first time inside, create_graph=True, and a user's Function."""
    fresh = Op(lambda xp, x: xp.multiply(x, 3))
    fresh.name = "triple_for_profile"
    fresh.grad_name = "TripleForProfileBackward0"
    fresh.add_rules(x=lambda F, g: g * 3)
    OPS[fresh.name] = fresh
    from tapegrad.autograd.op import _stub

    fresh.fn = _stub(fresh)

    class Own(tapegrad.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = tapegrad.ones(2, requires_grad=True)
    try:
        with profile() as prof:
            fresh.fn(x).sum().backward()
            (g,) = tapegrad.autograd.grad((x * x * x).sum(), x, create_graph=True)
            g.sum().backward()
            Own.apply(x).sum().backward()
        found = names(prof)
        assert fresh.vjp.__class__.__name__ == "function"
    finally:
        del OPS[fresh.name]
    assert found.count("TripleForProfileBackward0") == 1
    assert found.count("MulBackward0") >= 4
    assert found.count("OwnBackward") == 1


def test_modules_and_threads():
    net = Net()
    with profile(with_modules=True) as prof:
        net(tapegrad.ones(1, 4))
        thread = threading.Thread(target=lambda: tapegrad.ones(2).exp())
        thread.start()
        thread.join()
    events = {e.name: e for e in prof.events()}
    assert [e.name for e in prof.events() if e.kind == "user"] == [
        "nn.Module: Net", "nn.Module: Net.first", "nn.Module: Net.act", "nn.Module: Net.last"
    ]  # fmt: skip
    assert events["gelu"].cpu_parent is events["nn.Module: Net.act"]
    assert events["exp"].thread != events["gelu"].thread


def test_table():
    """Columns by what was asked for, order, limits, units, and the totals; of events whose times are known."""

    def event(name, start, end, shapes=(), flops=None, size=0):
        made = FunctionEvent(name, start, 1, "op")
        made.end, made.input_shapes, made.flops = end, [list(s) for s in shapes], flops
        made.self_cpu_memory_usage = size
        return made

    events = EventList(
        [event("mm", 0, 30, [(2, 3), (3, 4)], 48, 32), event("mm", 30, 40, [(2, 2), (2, 2)], 16, 4096),
         event("exp", 40, 1000, [(2,)])],
        profile_memory=True, with_flops=True,
    )  # fmt: skip
    assert (
        events.key_averages().table(sort_by="cpu_time_total").splitlines()[1].split("  ")[-1].strip() == "Total FLOPs"
    )
    lines = events.key_averages(group_by_input_shape=True).table(sort_by="count", header="H").splitlines()
    cells = [line.split() for line in lines]
    assert cells[0] == ["=" * len(lines[2])] and lines[1] == "H"
    assert cells[5][:6] == ["mm", "3.00%", "30.000us", "3.00%", "30.000us", "30.000us"]
    assert cells[5][6:] == ["32", "B", "32", "B", "1", "[[2,", "3],", "[3,", "4]]", "48.000"]
    assert cells[6][6:8] == ["4.00", "KB"] and cells[7][-1] == "--"
    assert lines[-1] == "Self CPU time total: 1.000ms"
    by_name = events.key_averages()
    assert [(e.key, e.count, e.cpu_time, e.flops) for e in by_name] == [("mm", 2, 20.0, 64), ("exp", 1, 960.0, 0)]
    assert "exp" not in by_name.table(sort_by="count", row_limit=1)
    assert "0.040ms" in by_name.table(time_unit="ms") and by_name.table(max_name_column_width=2).count("mm") == 1
    assert by_name[0].cpu_time_total_str == "40.000us" and by_name[0].device_time_total == 0
    with pytest.raises(AttributeError, match="nope"):
        by_name.table(sort_by="nope")


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_chrome_trace(tmp_path, ending):
    """Every event has what the trace format asks of its phase; arrows begin and end on events; times nest."""
    net = Net()
    with profile(record_shapes=True, with_stack=True) as prof:
        step(net)
    prof.add_metadata("note", "here")
    prof.add_metadata_json("numbers", "[1, 2]")
    path = tmp_path / f"trace.{ending}"
    prof.export_chrome_trace(str(path))
    with (gzip.open if ending.endswith("gz") else open)(path, "rt") as file:
        trace = json.load(file)
    assert trace["note"] == "here" and trace["numbers"] == [1, 2] and trace["record_shapes"] == 1
    needed = {
        "X": {"name", "cat", "ts", "dur"},
        "M": {"name", "args"},
        "s": {"id", "ts", "cat"},
        "f": {"id", "ts", "bp"},
    }
    for event in trace["traceEvents"]:
        assert needed[event["ph"]] | {"pid", "tid"} <= event.keys()
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event.get("ts", 0), (int, float)) and event.get("dur", 0) >= 0
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    starts = [e for e in trace["traceEvents"] if e["ph"] == "s"]
    ends = {e["id"]: e for e in trace["traceEvents"] if e["ph"] == "f"}
    assert len(spans) == len(prof.events()) and len(starts) == len(ends) == 4
    for arrow in starts:
        (source,) = [e for e in spans if e["ts"] == arrow["ts"] and e["cat"] == "cpu_op"]
        target = [e for e in spans if e["ts"] == ends[arrow["id"]]["ts"]]
        assert source["args"]["Sequence number"] == target[0]["args"]["Sequence number"]
    part = next(e for e in spans if e["cat"] == "user_annotation")
    inner = [e for e in spans if part["ts"] < e["ts"] < part["ts"] + part["dur"]]
    assert [e["name"] for e in inner] == ["linear", "gelu", "linear", "cross_entropy"]
    assert inner[0]["args"]["Input Dims"] == [[2, 4], [8, 4], [8]]
    prof.export_stacks(str(tmp_path / "stacks"))
    line = next(x for x in (tmp_path / "stacks").read_text().splitlines() if ";linear " in x)
    assert line.count(";") > 3 and line.rpartition(" ")[2].isdigit()


def test_schedule_and_steps(tmp_path):
    """Two cycles of wait, warmup and two recorded steps; the handler is called at the end of each."""
    made = []

    def ready(prof):
        made.append([e.key for e in prof.key_averages() if e.key.startswith("ProfilerStep")])
        tensorboard_trace_handler(str(tmp_path / "log"), "me")(prof)

    with profile(schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=ready) as prof:
        for _ in range(10):
            tapegrad.ones(2).exp()
            prof.step()
    assert made == [["ProfilerStep#2", "ProfilerStep#3"], ["ProfilerStep#6", "ProfilerStep#7"]]
    files = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert len(files) == 2 and all(f.startswith("me.") and f.endswith(".pt.trace.json") for f in files)
    assert prof.step_num == 10 and names(prof).count("exp") == 2
    with pytest.raises(RuntimeError, match="no step was recorded"):
        profile().events()


def test_schedules_are_pytorchs():
    peer = pytest.importorskip("torch.profiler")
    cases = [
        {"wait": 1, "warmup": 2, "active": 3}, {"wait": 0, "warmup": 1, "active": 1, "repeat": 2},
        {"wait": 2, "warmup": 1, "active": 2, "repeat": 2, "skip_first": 3},
        {"wait": 2, "warmup": 1, "active": 2, "skip_first": 1, "skip_first_wait": 1},
    ]  # fmt: skip
    for case in cases:
        ours, theirs = schedule(**case), peer.schedule(**case)
        assert [ours(i).name for i in range(20)] == [theirs(i).name for i in range(20)]
    with pytest.warns(UserWarning, match="won't be using warmup"):
        schedule(wait=0, warmup=0, active=1)
    assert [a.name for a in ProfilerAction] == [a.name for a in peer.ProfilerAction][:4]  # no devices here
    assert {a.name: a.value for a in ProfilerActivity} == {
        name: int(value) for name, value in peer.ProfilerActivity.__members__.items()
    }


def test_bad_arguments():
    with pytest.raises(AssertionError, match="Invalid profiler schedule arguments.*active=0"):
        schedule(wait=1, warmup=1, active=0)
    with pytest.raises(ValueError, match="members of ProfilerActivity, but got 'cpu'"):
        profile(activities=["cpu"])
    with pytest.raises(AssertionError, match="No valid profiler activities"):
        profile(activities=[])
    with profile() as prof:
        tapegrad.ones(2).exp()
    with pytest.raises(RuntimeError, match="with_stack=True"):
        prof.export_stacks("nowhere")
    with pytest.raises(ValueError, match="host times only"):
        prof.events().export_stacks("nowhere", "self_cuda_time_total")
    assert supported_activities() == {ProfilerActivity.CPU}


def test_nothing_is_left_behind():
    """After a profile that failed inside, alone and with another watch in it: every door is as it was."""
    x = tapegrad.ones(2, 2, requires_grad=True)
    (x @ x).sum().backward()
    doors = lambda: (tapegrad.Tensor.add_, tapegrad.Tensor.__iadd__, Op.vjp_graph, codegen.prepare, OPS["mm"].vjp)  # noqa: E731
    before = doors()
    with pytest.raises(RuntimeError, match="cannot be multiplied"), profile(with_modules=True) as prof:
        with profile() as inner, tapegrad.utils.flop_counter.FlopCounterMode(display=False):
            x @ x
        assert doors() != before
        x @ tapegrad.ones(3, 3)
    assert doors() == before
    assert names(inner) == ["mm"] and names(prof) == ["mm", "mm"]
    kernels = [k for op in OPS.values() for k in op.kernels.values()]
    kernels += [k for raw in _raw.values() for k in vars(raw).values()]
    assert not [k for k in kernels if k.__class__ is watch._Watched]
    assert Raw.__getattr__ is watch._link_raw and watch._open == []


def test_in_any_order():
    """What is opened later may be closed later: nothing of the first one stays, and the second goes on."""
    from tapegrad.autograd.modes import mode

    before = dict(vars(tapegrad.Tensor))
    prof = profile()
    prof.start()
    with tapegrad.utils.trace_nans(stop=False) as nans:
        prof.stop()
        x = tapegrad.zeros(2, requires_grad=True)
        x.sqrt().sum().backward()
        y = tapegrad.zeros(2)
        y.add_(1.0)
    assert nans.first.op == "SqrtBackward0" and names(prof) == []
    assert mode.recorder is True and mode.grad is True and dict(vars(tapegrad.Tensor)) == before
    assert watch._open == [] and watch._methods == []


def test_pytorchs_modules():
    """Where PyTorch programs import it from."""
    from tapegrad.compat import module_for

    assert module_for("torch.profiler").profile is profile
    assert module_for("torch.autograd.profiler").profile is tapegrad.autograd.profiler.profile
    assert module_for("torch.autograd.profiler_util").EventList is EventList
