"""tapegrad: the PyTorch API on plain arrays. `import tapegrad as torch`.

>>> import tapegrad as torch
>>> x = torch.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

from __future__ import annotations

import importlib
from typing import Any

from . import autograd as autograd
from .autograd.api import FUNCTIONS
from .autograd.api.legacy import TYPES, legacy_type
from .autograd.api.legacy import set_default_tensor_type as set_default_tensor_type
from .autograd.api.legacy import typename as typename
from .autograd.device import device as device
from .autograd.device import get_default_device as get_default_device
from .autograd.device import set_default_device as set_default_device
from .autograd.dtypes import ALIASES, ALL, by_name
from .autograd.dtypes import can_cast as can_cast
from .autograd.dtypes import dtype as dtype
from .autograd.dtypes import get_default_dtype as get_default_dtype
from .autograd.dtypes import promote_types as promote_types
from .autograd.dtypes import set_default_dtype as set_default_dtype
from .autograd.layout import channels_last as channels_last
from .autograd.layout import channels_last_3d as channels_last_3d
from .autograd.layout import contiguous_format as contiguous_format
from .autograd.layout import layout as layout
from .autograd.layout import memory_format as memory_format
from .autograd.layout import preserve_format as preserve_format
from .autograd.layout import strided as strided
from .autograd.modes import enable_grad as enable_grad
from .autograd.modes import inference_mode as inference_mode
from .autograd.modes import is_grad_enabled as is_grad_enabled
from .autograd.modes import is_inference_mode_enabled as is_inference_mode_enabled
from .autograd.modes import no_grad as no_grad
from .autograd.modes import set_grad_enabled as set_grad_enabled
from .autograd.random import Generator as Generator
from .autograd.random import default_generator as default_generator
from .autograd.random import get_rng_state as get_rng_state
from .autograd.random import initial_seed as initial_seed
from .autograd.random import manual_seed as manual_seed
from .autograd.random import seed as seed
from .autograd.random import set_rng_state as set_rng_state
from .autograd.size import Size as Size
from .autograd.tensor import Tensor as Tensor
from .version import __version__ as __version__

inf, nan, pi, e = float("inf"), float("nan"), 3.141592653589793, 2.718281828459045

# Public functions, dtypes and legacy types are listed where they are defined; this file only opens the door.
globals().update(FUNCTIONS)
globals().update({d.name: d for d in ALL}, **{alias: by_name(name) for alias, name in ALIASES.items()}, **TYPES)

newaxis = None

# Rooms that are loaded when they are first named, so that `import tapegrad` stays quick.
_ROOMS = {
    name: name
    for name in (
        "accelerator amp backends compat compiler cuda distributed distributions fft func jit linalg masked models nn "
        "optim profiler return_types serialization sparse special testing train utils"
    ).split()
} | {  # no random.py, signal, multiprocessing or onnx here: on a path of their own they would hide Python's
    "futures": "autograd.futures",
    "multiprocessing": "utils.processes",
    "onnx": "utils.onnx",
    "random": "autograd.random",
    "signal": "autograd.api.signal",
}

# Where the other names are that most programs never need: module -> names.
_ELSEWHERE = {
    "amp": (
        "autocast clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype "
        "is_autocast_cache_enabled is_autocast_cpu_enabled is_autocast_enabled set_autocast_cache_enabled "
        "set_autocast_dtype set_autocast_enabled"
    ),
    "autograd.anomaly": "is_anomaly_check_nan_enabled is_anomaly_enabled",
    "autograd.api.lobpcg": "lobpcg",
    "autograd.api.lowrank": "pca_lowrank svd_lowrank",
    "autograd.api.native": (
        "_addmm_activation _batch_norm_with_update _chunk_cat _log_softmax _log_softmax_backward_data "
        "_native_batch_norm_legit "
        "_safe_softmax _softmax _softmax_backward_data _unsafe_masked_index _unsafe_masked_index_put_accumulate "
        "affine_grid_generator grid_sampler grid_sampler_2d grid_sampler_3d native_batch_norm native_dropout "
        "native_group_norm native_layer_norm"
    ),
    "autograd.api.segment": "_segment_reduce",
    "autograd.api.storage": "TypedStorage UntypedStorage",
    "autograd.info": "finfo iinfo",
    "autograd.interchange": "from_dlpack",
    "autograd.layout": "sparse_coo",
    "autograd.printing": "set_printoptions",
    "autograd.settings": (
        "are_deterministic_algorithms_enabled compiled_with_cxx11_abi cond get_deterministic_debug_mode "
        "get_float32_matmul_precision get_num_interop_threads get_num_threads "
        "is_deterministic_algorithms_warn_only_enabled is_distributed is_vulkan_available is_warn_always_enabled "
        "set_anomaly_enabled set_deterministic_debug_mode set_float32_matmul_precision set_flush_denormal "
        "set_num_interop_threads set_num_threads set_warn_always sym_float sym_int sym_ite sym_max sym_min sym_not "
        "sym_sqrt sym_sum use_deterministic_algorithms while_loop"
    ),
    "autograd.vmap": "vmap",
    "backends.config": "show_config",
    "compiler": "compile",
    "cuda": "OutOfMemoryError",
    # PyTorch has these here too, with the same arguments
    "nn.functional": (
        "adaptive_avg_pool1d avg_pool1d bilinear celu celu_ channel_shuffle conv1d conv2d conv3d conv_tbc "
        "conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity hardshrink max_pool1d max_pool2d "
        "max_pool3d pairwise_distance pixel_shuffle pixel_unshuffle prelu rms_norm rrelu selu selu_ threshold"
    ),
    # and these with other arguments
    "nn.functional.toplevel": (
        "adaptive_max_pool1d alpha_dropout alpha_dropout_ batch_norm binary_cross_entropy_with_logits convolution "
        "cosine_embedding_loss ctc_loss dropout dropout_ embedding embedding_renorm_ feature_alpha_dropout "
        "feature_alpha_dropout_ feature_dropout feature_dropout_ group_norm gru gru_cell hinge_embedding_loss "
        "instance_norm kl_div layer_norm lstm lstm_cell margin_ranking_loss max_pool1d_with_indices "
        "native_channel_shuffle norm_except_dim poisson_nll_loss rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell rrelu_ "
        "threshold_ triplet_margin_loss"
    ),
    "serialization": "load save",
    "sparse": "sparse_coo_tensor spmm",
    "utils.dlpack": "to_dlpack",
}
_MODULE_OF = {name: module for module, names in _ELSEWHERE.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{_ROOMS[name]}", __name__)
    if name == "bfloat16":
        return by_name(name)
    if name == "BFloat16Tensor":
        return legacy_type(by_name("bfloat16"))
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_MODULE_OF, "bfloat16"})
