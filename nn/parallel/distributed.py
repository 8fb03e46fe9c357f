"""DistributedDataParallel: one model on several processes, whose gradients are averaged while backward runs."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ... import distributed as dist
from ...autograd.modes import mode
from ...autograd.tensor import Tensor
from ...distributed.algorithms.join import Join, Joinable, JoinHook
from ..modules.module import Module
from ..modules.sparse import Embedding, EmbeddingBag
from ..parameter import UninitializedParameter
from . import messages
from .buckets import DEFAULT_BUCKET_MB, FIRST_BUCKET_BYTES
from .data_parallel import _moved
from .reducer import Reducer
from .sync import broadcast_coalesced, verify_shapes
from .uneven import DDPJoinHook, common_rank, synced_by_any

__all__ = ["DistributedDataParallel"]

_MB = 1024 * 1024
_ABSENT = {
    "delay_all_reduce_named_params": "buckets are filled in the order in which gradients arrive",
    "param_to_hook_all_reduce": "buckets are filled in the order in which gradients arrive",
    "mixed_precision": "use torch.autocast in the forward pass, or fp16_compress_hook for the messages alone",
    "device_mesh": "give the process_group",
}


def _tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in nested sequences, dicts and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_of(item)
    elif isinstance(value, dict):
        yield from _tensors_of(list(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _tensors_of([getattr(value, field.name) for field in dataclasses.fields(value)])


class DistributedDataParallel(Module, Joinable):
    """A module whose gradients are averaged over all processes of a group; each process gives it its own data.

    At construction all processes take the parameters and buffers of rank 0 (RuntimeError on all of them where their
    models differ). In the backward pass gradients travel in buckets, each as soon as it is full, and are averages when
    `backward()` returns. Names in the state dict begin with "module.".

    Args:
        module: the model, kept as `.module`; the same on all processes.
        device_ids: one GPU, where inputs are moved, or None.
        broadcast_buffers, forward_sync_buffers: whether buffers (running statistics) are taken from rank 0 before each
            forward pass; the former, which PyTorch deprecates, also counts at construction.
        init_sync: whether shapes are compared and parameters sent at construction.
        process_group: the processes; by default all.
        bucket_cap_mb: size of a bucket in MiB, by default 25 with a first one of 1. `bucket_cap_mb_list`: of each.
        find_unused_parameters: parameters outside of the outputs' graph contribute zeros. One that no process used
            keeps its `.grad`. Without it such a parameter is an error at the next forward pass.
        gradient_as_bucket_view: `.grad` is a view of the bucket, which saves a copy and its memory.
        static_graph: the same parameters are used in every iteration; unused ones need no search.
        skip_all_reduce_unused_params: buckets that no process uses are not sent (they must be the same everywhere).
        check_reduction, batched_grad_copy: accepted; without effect.

    ValueError before `init_process_group`, or for an option that is not there; RuntimeError for a module without a
    parameter that requires a gradient, with an uninitialized one, or with sparse gradients.

    >>> import tapegrad as torch
    >>> torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    >>> model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    >>> model(torch.ones(3, 2)).sum().backward()
    >>> model.module.weight.grad
    tensor([[3., 3.]])
    >>> torch.distributed.destroy_process_group()
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool | None = None,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        delay_all_reduce_named_params: Any = None,
        param_to_hook_all_reduce: Any = None,
        mixed_precision: Any = None,
        device_mesh: Any = None,
        skip_all_reduce_unused_params: bool = False,
        bucket_cap_mb_list: list[int] | None = None,
        batched_grad_copy: bool = False,
        forward_sync_buffers: bool | None = None,
    ):
        Module.__init__(self)
        Joinable.__init__(self)
        dist.get_rank(process_group)  # ValueError where there is no group
        given = locals()
        for name, remedy in _ABSENT.items():
            if given[name] is not None:
                raise ValueError(f"DistributedDataParallel does not take {name}: {remedy}")
        self.process_group = process_group if process_group is not None else dist.group.WORLD
        self.parameters_to_ignore = set(getattr(module, "_ddp_params_and_buffers_to_ignore", ()))
        names, parameters = self._check_module(module)
        self.dim, self.device = dim, parameters[0].device
        self.device_ids, self.output_device = self._check_devices(parameters, device_ids, output_device)
        if broadcast_buffers is not None and forward_sync_buffers is not None:
            warnings.warn(
                "Both `broadcast_buffers` and `forward_sync_buffers` were specified. `broadcast_buffers` is deprecated "
                "and its value is ignored when `forward_sync_buffers` is provided.",
                FutureWarning,
                stacklevel=2,
            )
        old = True if broadcast_buffers is None else broadcast_buffers
        self.forward_sync_buffers = old if forward_sync_buffers is None else forward_sync_buffers
        self.module = module
        self.find_unused_parameters, self.static_graph = find_unused_parameters, static_graph
        self.gradient_as_bucket_view = gradient_as_bucket_view
        self.skip_all_reduce_unused_params = skip_all_reduce_unused_params
        self.bucket_bytes_cap = int((DEFAULT_BUCKET_MB if bucket_cap_mb is None else bucket_cap_mb) * _MB)
        self.bucket_bytes_cap_default = bucket_cap_mb is None
        self.bucket_bytes_cap_list = [int(mb * _MB) for mb in bucket_cap_mb_list or ()]
        self.require_backward_grad_sync = self.require_forward_param_sync = True
        self.divide_by_initial_world_size = True
        if init_sync:
            verify_shapes(parameters, names, self.process_group)
            self._sync_module_states(0, old or forward_sync_buffers is not None)
        self.reducer = self._make_reducer(names, parameters)

    # ---- construction

    def _check_module(self, module: Module) -> tuple[list[str], list[Tensor]]:
        """Names and parameters that take part. RuntimeError where there is none or one cannot."""
        kept = [(name, p) for name, p in module.named_parameters() if name not in self.parameters_to_ignore]
        if not any(p.requires_grad for _, p in kept):
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter that requires a "
                "gradient."
            )
        kinds = {p.device.type for _, p in kept}
        if len(kinds) != 1:
            raise ValueError(
                "DistributedDataParallel's input module must be on the same type of devices, but input module "
                f"parameters locate in {kinds}."
            )
        if any(isinstance(p, UninitializedParameter) for _, p in kept):
            raise RuntimeError(
                "Modules with uninitialized parameters can't be used with `DistributedDataParallel`. Run a dummy "
                "forward pass to correctly initialize the modules"
            )
        for name, layer in module.named_modules():
            if isinstance(layer, (Embedding, EmbeddingBag)) and layer.sparse and layer.weight.requires_grad:
                raise RuntimeError(messages.sparse(f"{name}.weight" if name else "weight"))
        kept = [(name, p) for name, p in kept if p.requires_grad]
        return [name for name, _ in kept], [p for _, p in kept]

    @staticmethod
    def _check_devices(parameters: list[Tensor], device_ids: Any, output_device: Any) -> tuple[Any, Any]:
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError("device_ids can only be None or contain a single element.")
        devices = {p.device for p in parameters}
        if not device_ids or parameters[0].device.type == "cpu" or len(devices) > 1:
            if device_ids or output_device:
                raise ValueError(
                    "DistributedDataParallel device_ids and output_device arguments only work with "
                    "single-device/multiple-device GPU modules or CPU modules, but got device_ids "
                    f"{device_ids}, output_device {output_device}, and module parameters {devices}."
                )
            return None, None
        return list(device_ids), device_ids[0] if output_device is None else output_device

    def _make_reducer(self, names: list[str], parameters: list[Tensor]) -> Reducer:
        first = FIRST_BUCKET_BYTES if self.bucket_bytes_cap_default else self.bucket_bytes_cap
        limits: list[int | None] = [*self.bucket_bytes_cap_list] or [first, self.bucket_bytes_cap]
        # the first iteration shows the order in which gradients arrive: until then one bucket, that no order can spoil
        will_rebuild = self.static_graph or not self.find_unused_parameters
        return Reducer(
            parameters,
            names,
            self.process_group,
            first_limits=[None] if will_rebuild and not self.bucket_bytes_cap_list else limits,
            limits=limits,
            find_unused=self.find_unused_parameters,
            static=self.static_graph,
            as_view=self.gradient_as_bucket_view,
            skip_unused=self.skip_all_reduce_unused_params,
        )

    def _synced_buffers(self) -> list[Tensor]:
        return [b for name, b in self.module.named_buffers() if name not in self.parameters_to_ignore]

    def _sync_module_states(self, src: int, buffers: bool) -> None:
        kept = [p for name, p in self.module.named_parameters() if name not in self.parameters_to_ignore]
        broadcast_coalesced([*kept, *(self._synced_buffers() if buffers else ())], src, self.process_group)

    @property
    def broadcast_buffers(self) -> bool:
        """PyTorch's old name of `forward_sync_buffers`."""
        return self.forward_sync_buffers

    @broadcast_buffers.setter
    def broadcast_buffers(self, value: bool) -> None:
        self.forward_sync_buffers = value

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process. RuntimeError for a group that is not that of all processes."""
        if self.process_group is not dist.group.WORLD:
            raise RuntimeError(
                "DDP Pickling/Unpickling are only supported when using DDP with the default process group. That is, "
                "when you have called init_process_group and have not passed process_group argument to DDP constructor"
            )
        return {k: v for k, v in self.__dict__.items() if k not in ("process_group", "reducer")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        dist.get_rank()
        self.process_group = dist.group.WORLD
        self.require_backward_grad_sync = self.require_forward_param_sync = True
        self.reducer = self._make_reducer(*self._check_module(self.module))

    # ---- training

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The wrapped module's; before it buffers are sent, after it the backward pass is prepared."""
        synced = mode.grad is not False and self.require_backward_grad_sync
        notice = Join.notify_join_context(self)
        if notice is not None and not self.divide_by_initial_world_size:
            notice.wait()
            self.reducer.divisor = int(notice.result()[0].item())
        if mode.grad is not False:
            self.reducer.rebuild_buckets()
        self._sync_buffers_if_due()
        if self._join_config.enable:
            synced_by_any(self, goes_on=True)
        if self.device_ids:
            place = self.device
            inputs, kwargs = _moved(inputs, place), _moved(kwargs, place)
        output = self.module(*inputs, **kwargs)
        if synced:
            self.reducer.prepare(list(_tensors_of(output)) if self.reducer.find_unused else ())
        self.require_forward_param_sync = synced
        return output

    def _sync_buffers_if_due(self, goes_on: bool = True) -> None:
        """Buffers are rank 0's, which may have no data left in `join()`: then of the largest rank that goes on."""
        if not (self.require_forward_param_sync and self.forward_sync_buffers):
            return
        buffers = self._synced_buffers()
        if buffers and dist.get_world_size(self.process_group) > 1:
            src = common_rank(self, goes_on) if self._join_config.enable else 0
            broadcast_coalesced(buffers, src, self.process_group)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, gradients only add up in `.grad`; the first forward and backward pass outside averages them.

        The forward pass must be inside too.
        """
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Join:
        """A context manager around a training loop that has more iterations on some processes than on others.

        Processes without data left contribute zeros. Gradients are divided by the number of all processes, or with
        `divide_by_initial_world_size=False` of those that go on. At the end all have the model of one that went on.
        Not for models that communicate in their own forward pass (SyncBatchNorm): nobody answers them.
        """
        return Join(
            [self],
            enable,
            throw_on_early_termination,
            divide_by_initial_world_size=divide_by_initial_world_size,
        )

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What a process does that has joined (see `torch.distributed.algorithms.Join`)."""
        return DDPJoinHook(self, kwargs.get("divide_by_initial_world_size", True))

    @property
    def join_device(self) -> Any:
        """Where the parameters are."""
        return self.device

    @property
    def join_process_group(self) -> Any:
        """The processes."""
        return self.process_group

    def register_comm_hook(self, state: object, hook: Any) -> None:
        """`hook(state, bucket)` reduces a bucket in place of the all-reduce and the division.

        It gets a `GradBucket` and gives a `torch.futures.Future` of the reduced 1-D tensor. TypeError where it cannot
        be called, ValueError where its annotations say something else, RuntimeError for a second hook.
        """
        if not callable(hook):
            raise TypeError("Communication hook must be callable.")
        signature = inspect.signature(hook)
        annotation = signature.parameters["bucket"].annotation if "bucket" in signature.parameters else "GradBucket"
        if annotation is not inspect.Parameter.empty and "GradBucket" not in getattr(
            annotation, "__name__", str(annotation)
        ):
            raise ValueError("Communication hook: bucket annotation should be dist.GradBucket.")
        if signature.return_annotation is not signature.empty and "Future" not in str(signature.return_annotation):
            raise ValueError(
                "Communication hook: return annotation should be torch.futures.Future[torch.Tensor]."
            )
        if self.reducer.hook is not None:
            raise RuntimeError("register_comm_hook or register_builtin_comm_hook can only be called once.")
        self.reducer.hook, self.reducer.hook_state = hook, state

    def _set_static_graph(self) -> None:
        """As `static_graph=True` at construction; before the first iteration, RuntimeError after it."""
        if self.static_graph:
            return
        if self.reducer.iterations:
            raise RuntimeError(
                "set_static_graph() should be called before training loop starts and after DistributedDataParallel is "
                "constructed."
            )
        self.static_graph = True
        hook = self.reducer.hook, self.reducer.hook_state
        self.reducer.detach()
        self.reducer = self._make_reducer(*self._check_module(self.module))
        self.reducer.hook, self.reducer.hook_state = hook

    def _get_ddp_logging_data(self) -> dict[str, Any]:
        """Figures of buckets and of the last iteration: sizes in bytes, times in nanoseconds."""
        return {
            **self.reducer.report(),
            "module_name": type(self.module).__name__,
            "bucket_cap_bytes": self.bucket_bytes_cap,
            "find_unused_parameters": self.find_unused_parameters,
            "gradient_as_bucket_view": self.gradient_as_bucket_view,
            "static_graph": self.static_graph,
            "forward_sync_buffers": self.forward_sync_buffers,
        }
