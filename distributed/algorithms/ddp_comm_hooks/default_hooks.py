"""Hooks that average a bucket as it is, or in half precision: half the bytes, rounded once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .... import distributed as dist
from ....autograd.dtypes import by_name, float16
from ....autograd.futures import Future
from ....autograd.tensor import Tensor

__all__ = [
    "allreduce_hook", "bf16_compress_hook", "bf16_compress_wrapper", "fp16_compress_hook", "fp16_compress_wrapper",
]  # fmt: skip

Hook = Callable[[Any, Any], Future[Tensor]]


def _average(process_group: Any, tensor: Tensor) -> Future[Tensor]:
    """Divides a tensor by the number of processes, which keeps halves from overflowing, and sums it over them."""
    tensor.div_(dist.get_world_size(process_group))
    work: Any = dist.all_reduce(tensor, group=process_group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def allreduce_hook(process_group: Any, bucket: dist.GradBucket) -> Future[Tensor]:
    """The average of the bucket, as without a hook. process_group: None for all processes."""
    return _average(process_group, bucket.buffer())


def _compressed(dtype: Any, process_group: Any, bucket: dist.GradBucket) -> Future[Tensor]:
    buffer = bucket.buffer()
    return _average(process_group, buffer.to(dtype)).then(lambda future: buffer.copy_(future.value()))


def fp16_compress_hook(process_group: Any, bucket: dist.GradBucket) -> Future[Tensor]:
    """The average, sent as float16 (range 6e-8 to 65504): use a GradScaler where gradients are smaller."""
    return _compressed(float16, process_group, bucket)


def bf16_compress_hook(process_group: Any, bucket: dist.GradBucket) -> Future[Tensor]:
    """The average, sent as bfloat16: the range of float32, 8 bits of precision."""
    return _compressed(by_name("bfloat16"), process_group, bucket)


def _wrapped(dtype: Any, hook: Hook) -> Hook:
    def compressed(hook_state: Any, bucket: dist.GradBucket) -> Future[Tensor]:
        whole = bucket.buffer()
        bucket.set_buffer(whole.to(dtype))
        return hook(hook_state, bucket).then(lambda future: whole.copy_(future.value()))

    return compressed


def fp16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that gives `hook` the bucket as float16."""
    return _wrapped(float16, hook)


def bf16_compress_wrapper(hook: Hook) -> Hook:
    """A hook that gives `hook` the bucket as bfloat16."""
    return _wrapped(by_name("bfloat16"), hook)
