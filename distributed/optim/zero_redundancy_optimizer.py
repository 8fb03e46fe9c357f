"""ZeroRedundancyOptimizer: each process keeps the state of its share of the parameters.

Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020, stage 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ... import distributed as dist
from ...autograd.api.creation import empty
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ...optim.optimizer import Optimizer, typename
from ..algorithms.join import Join, Joinable, JoinHook

__all__ = ["ZeroRedundancyOptimizer"]

Group = dict[str, Any]


class _ZeroJoinHook(JoinHook):
    """A process without data left makes the step of its share, and takes part in the broadcasts."""

    def __init__(self, zero: ZeroRedundancyOptimizer):
        self.zero = zero

    def main_hook(self) -> None:
        self.zero.step()


class _Share:
    """The parameters of one process with one dtype and device, and the flat buffer in which they travel."""

    def __init__(self, parameters: list[Tensor], as_view: bool):
        self.parameters, self.as_view = parameters, as_view
        first = parameters[0]
        self.buffer = empty(sum(p.numel() for p in parameters), dtype=first.dtype, device=first.device)
        self.views: list[Tensor] = []
        at = 0
        for p in parameters:
            self.views.append(self.buffer[at : at + p.numel()].view(p.shape))
            at += p.numel()
        if as_view:
            self.pack()
            for p, view in zip(parameters, self.views, strict=True):
                p.data = view

    @no_grad()
    def pack(self) -> None:
        """The parameters into the buffer."""
        for p, view in zip(self.parameters, self.views, strict=True):
            view.copy_(p.detach())

    @no_grad()
    def unpack(self) -> None:
        """The buffer into the parameters."""
        for p, view in zip(self.parameters, self.views, strict=True):
            p.copy_(view)


class ZeroRedundancyOptimizer(Optimizer, Joinable):
    """An optimizer of which each process keeps and updates about 1/N of the parameters' state.

    `step` updates this process's share with `optimizer_class(share, **defaults)` and then every process sends its share
    to all. Gradients must be equal on all processes, as after DistributedDataParallel's backward; all of them step.

    Args:
        params: parameters, or groups as dicts, the same on all processes; of one dtype.
        optimizer_class: the optimizer of a share, such as `optim.AdamW`; `**defaults` are its options.
        process_group: the processes; all of them by default.
        parameters_as_bucket_view: parameters live in the flat buffers in which they are sent, which saves two copies.
        overlap_with_ddp: not taken (ValueError): the broadcasts of all shares are under way at once as it is.

    TypeError or ValueError for what is no list of parameters, an empty one, or one of several dtypes.
    """

    def __init__(
        self,
        params: Any,
        optimizer_class: type[Optimizer],
        process_group: Any = None,
        parameters_as_bucket_view: bool = False,
        overlap_with_ddp: bool = False,
        **defaults: Any,
    ):
        params = _checked(params)
        if overlap_with_ddp:
            raise ValueError(
                "ZeroRedundancyOptimizer does not take overlap_with_ddp=True: call step() after backward(), as usual"
            )
        self.process_group = process_group if process_group is not None else dist.group.WORLD
        self.world_size, self.rank = dist.get_world_size(self.process_group), dist.get_rank(self.process_group)
        self.global_rank = dist.get_global_rank(self.process_group, self.rank)
        self.parameters_as_bucket_view = parameters_as_bucket_view
        self.initialized = False
        Joinable.__init__(self)
        Optimizer.__init__(self, params, defaults)
        self._sizes = [0] * self.world_size
        self._rank_of: dict[int, int] = {}  # id of a parameter -> whose it is
        own = [self._own_part(group) for group in self.param_groups]
        self.optim = optimizer_class(own, **defaults)
        self._copy_options(self.optim.param_groups, self.param_groups)
        self.defaults = self.optim.defaults
        self.state = self.optim.state
        self._make_shares()
        self._all_state_dicts: list[dict[str, Any]] = []
        self.initialized = True

    # ---- who has what

    def _own_part(self, group: Group) -> Group:
        """Gives each parameter of a group to the process that has least, the largest first; this one's part."""
        for p in sorted(group["params"], key=lambda p: p.numel(), reverse=True):
            rank = self._sizes.index(min(self._sizes))
            self._rank_of[id(p)] = rank
            self._sizes[rank] += p.numel()
        part = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        return {**part, "params": [p for p in group["params"] if self._rank_of[id(p)] == self.rank]}

    def _partition(self) -> list[list[list[Tensor]]]:
        """[rank][group]: the parameters of each process."""
        return [
            [[p for p in group["params"] if self._rank_of[id(p)] == rank] for group in self.param_groups]
            for rank in range(self.world_size)
        ]

    def _make_shares(self) -> None:
        self._shares: list[list[_Share]] = []
        for groups in self._partition():
            kinds: dict[Any, list[Tensor]] = {}
            for p in (p for group in groups for p in group):
                kinds.setdefault((p.dtype, p.device), []).append(p)
            self._shares.append([_Share(found, self.parameters_as_bucket_view) for found in kinds.values()])

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, which is shared out among the processes too; call it on all of them."""
        super().add_param_group(param_group)
        if not getattr(self, "initialized", False):
            return
        self.optim.add_param_group(self._own_part(self.param_groups[-1]))
        self._copy_options(self.optim.param_groups, self.param_groups)
        self._make_shares()

    @staticmethod
    def _copy_options(source: list[Group], target: list[Group]) -> None:
        """The groups' options (lr, ...), which schedulers change in one and optimizers read in the other."""
        for given, taken in zip(source, target, strict=True):
            taken.update({k: v for k, v in given.items() if k not in ("params", "param_names")})

    # ---- the step

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Updates this process's share, and gives all processes the parameters of all. The closure's loss, or None."""
        notice = Join.notify_join_context(self)
        self._copy_options(self.param_groups, self.optim.param_groups)
        loss = self.optim.step(**kwargs) if closure is None else self.optim.step(closure=closure, **kwargs)
        self._copy_options(self.optim.param_groups, self.param_groups)
        if notice is not None:
            notice.wait()
        self._sync_params()
        return loss

    def _sync_params(self) -> None:
        """Every process's share to all: all broadcasts are begun before the first is waited for."""
        if self.world_size == 1:
            return
        work = []
        for rank, shares in enumerate(self._shares):
            root = dist.get_global_rank(self.process_group, rank)
            for share in shares:
                if rank == self.rank and not share.as_view:
                    share.pack()
                work.append((rank, share, dist.broadcast(share.buffer, root, group=self.process_group, async_op=True)))
        for rank, share, under_way in work:
            if under_way is not None:
                under_way.wait()
            if rank != self.rank and not share.as_view:
                share.unpack()

    # ---- the state of all

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Gathers the state of all processes on the process `to`, whose `state_dict()` can be called then.

        All processes must call it; again after further steps.
        """
        self._copy_options(self.param_groups, self.optim.param_groups)
        root = dist.get_global_rank(self.process_group, to)
        every: list[Any] | None = [None] * self.world_size if self.rank == to else None
        dist.gather_object(self.optim.state_dict(), every, dst=root, group=self.process_group)
        self._all_state_dicts = every or []

    def state_dict(self) -> dict[str, Any]:
        """The state of all processes, in the form of `optimizer_class`'s own. RuntimeError before it was gathered."""
        if not self._all_state_dicts:
            raise RuntimeError(
                "Optimizer state has not been consolidated on this rank. Please call "
                f"`consolidate_state_dict(to={self.rank})` on all ranks beforehand if you meant to save the global "
                "state."
            )
        place = self._places()
        state: dict[Any, Any] = {}
        for groups, local in zip(self._partition(), self._all_state_dicts, strict=True):
            own = [p for group in groups for p in group]
            state.update({place[id(own[i])]: value for i, value in local["state"].items()})
        packed = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [place[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": dict(sorted(state.items())), "param_groups": packed}

    def _places(self) -> dict[int, int]:
        """id of a parameter -> its number in the state dict."""
        return {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes this process's share of a state dict of all: of `state_dict()`, or of `optimizer_class`'s own.

        ValueError where its groups do not fit.
        """
        state = state_dict["state"]
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        place = self._places()
        own = [place[id(p)] for group in self.optim.param_groups for p in group["params"]]
        groups, at = [], 0
        for local, group in zip(self.optim.param_groups, self.param_groups, strict=True):
            n = len(local["params"])
            options = {k: v for k, v in group.items() if k not in ("params", "param_names")}
            groups.append({**options, "params": list(range(at, at + n))})
            at += n
        mine = {i: state[k] for i, k in enumerate(own) if k in state}
        self.optim.load_state_dict({"state": mine, "param_groups": groups})
        self.state = self.optim.state
        self._all_state_dicts = []

    # ---- uneven inputs

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What a process does that has joined (see `algorithms.join`)."""
        return _ZeroJoinHook(self)

    @property
    def join_device(self) -> Any:
        """Where the parameters are."""
        return self.param_groups[0]["params"][0].device

    @property
    def join_process_group(self) -> Any:
        """The processes."""
        return self.process_group


def _checked(params: Any) -> list[Any]:
    """The parameters or groups as a list. TypeError or ValueError for something else."""
    if isinstance(params, Tensor):
        raise TypeError(f"`params` argument should be an iterable of Tensors, but got {typename(params)}")
    if not isinstance(params, Iterable):
        raise TypeError("`params` argument should be an iterable of Tensors or dicts")
    found = list(params)
    if not found:
        raise ValueError("ZeroRedundancyOptimizer got an empty parameter list")
    if all(isinstance(p, Tensor) for p in found):
        tensors = found
    elif all(isinstance(p, dict) for p in found):
        for group in found:
            if "params" not in group:
                raise ValueError(
                    "Each parameter group passed-in via `params` must have a 'params' key mapping to the parameters in "
                    "the group"
                )
            group["params"] = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        tensors = [p for group in found for p in group["params"]]
    else:
        raise TypeError(
            "`params` argument should be an iterable of Tensors or dicts, but got "
            + str({type(p).__name__ for p in found})
        )
    for p in tensors:
        if isinstance(p, Tensor) and (p.is_sparse or p.dtype != tensors[0].dtype):
            raise ValueError(
                "ZeroRedundancyOptimizer requires that all parameters have the same dense type, but got both "
                f"{typename(tensors[0])} and {typename(p)}"
            )
    return found
