"""PyTorch's texts for what goes wrong in data-parallel training."""

from __future__ import annotations

from collections.abc import Sequence

_BASE = "Expected to have finished reduction in the prior iteration before starting a new one. "
_OUTPUTS = "making sure all `forward` function outputs participate in calculating loss. "
_LAST = (
    "\nIf you already have done the above, then the distributed data parallel module wasn't able to locate the output "
    "tensors in the return value of your module's `forward` function. Please include the loss function and the "
    "structure of the return value of `forward` of your module when reporting this issue (e.g. list, dict, iterable)."
)
_NOT_USED = "This error indicates that your module has parameters that were not used in producing loss. "

GRAPH_CHANGED = (
    "Your training graph has changed in this iteration, e.g., one parameter is unused in first iteration, but then got "
    "used in the second iteration. this is not compatible with static_graph set to True."
)


def unfinished(static: bool, find_unused: bool, rank: int, missing: Sequence[int], names: Sequence[str]) -> str:
    """Of the forward pass after a backward pass that left parameters without a gradient."""
    if static:
        text = (
            _BASE + "This error indicates that your training graph has changed in this iteration, e.g., one parameter "
            "is used in first iteration, but then got unused in the second iteration. this is not compatible with "
            "static_graph set to True."
        )
    elif find_unused:
        text = (
            _BASE + _NOT_USED + "Since `find_unused_parameters=True` is enabled, this likely  means that not all "
            "`forward` outputs participate in computing loss. You can fix this by " + _OUTPUTS + _LAST
        )
    else:
        text = (
            _BASE + _NOT_USED + "You can enable unused parameter detection by passing the keyword argument "
            "`find_unused_parameters=True` to `torch.nn.parallel.DistributedDataParallel`, and by \n" + _OUTPUTS + _LAST
        )
    places = " ".join(map(str, missing))
    called = ", ".join(names[i] for i in missing)
    return f"{text}\nParameter indices which did not receive grad for rank {rank}: {places} ({called})"


def ready_twice(place: int, name: str, find_unused: bool) -> str:
    """Of a second gradient for a parameter in one backward pass."""
    text = (
        "Expected to mark a variable ready only once. This error is caused by one of the following reasons: 1) Use of "
        "a module parameter outside the `forward` function. Please make sure model parameters are not shared across "
        "multiple concurrent forward-backward passes. or try to use _set_static_graph() as a workaround if this module "
        "graph does not change during training loop.2) Reused parameters in multiple reentrant backward passes. For "
        "example, if you use multiple `checkpoint` functions to wrap the same part of your model, it would result in "
        "the same set of parameters been used by different reentrant backward passes multiple times, and hence marking "
        "a variable ready multiple times. DDP does not support such use cases in default. You can try to use "
        "_set_static_graph() as a workaround if your module graph does not change over iterations."
    )
    if find_unused:
        text += (
            "3) Incorrect unused parameter detection. The return value of the `forward` function is inspected by the "
            "distributed data parallel wrapper to figure out if any of the module's parameters went unused. For unused "
            "parameters, DDP would not expect gradients from then. However, if an unused parameter becomes part of the "
            "autograd graph at a later point in time (e.g., in a reentrant backward when using `checkpoint`), the "
            "gradient will show up unexpectedly. If all parameters in the model participate in the backward pass, you "
            "can disable unused parameter detection by passing the keyword argument `find_unused_parameters=False` to "
            "`torch.nn.parallel.DistributedDataParallel`."
        )
    return f"{text}\nParameter at index {place} with name {name} has been marked as ready twice."


def sparse(name: str) -> str:
    """Of a gradient that is sparse."""
    return (
        f"DistributedDataParallel: the gradient of {name} is sparse, and buckets are dense: use sparse=False in its "
        "Embedding"
    )
