"""How exactly kernels of devices compute: PyTorch's switches for it, which the tape sets and backends read.

How float32 products are computed has old names and new ones, over one table; `State.deterministic` is what
`use_deterministic_algorithms` was told.

The new names are a tree, in which "none" leaves the choice to what stands above:

    backends.fp32_precision                   all
    backends.cudnn.fp32_precision             products and convolutions on CUDA devices
    backends.cuda.matmul.fp32_precision       matrix products there
    backends.cudnn.conv.fp32_precision        convolutions there; .rnn: recurrent layers

with the words "ieee" (float32 as it is), "tf32" (factors rounded to 10 bits of fraction) and, not on CUDA devices,
"bf16". The old names (`cuda.matmul.allow_tf32`, `cudnn.allow_tf32`, `set_float32_matmul_precision`) write into the same
table; reading one raises, as PyTorch does, where a new name was given another value since.

Kernels read `tf32`. The words for mkldnn are kept and choose nothing.
"""

from __future__ import annotations

from typing import Any

WORDS = ("none", "ieee", "tf32", "bf16")
SUPPORTED = {"generic": WORDS, "cuda": ("none", "ieee", "tf32"), "mkldnn": WORDS}
NODES = [("generic", "all")] + [(room, op) for room in ("cuda", "mkldnn") for op in ("all", "matmul", "conv", "rnn")]
# the word of a node to which none was given, and of which all above are "none"
UNSET = {("cuda", "conv"): "tf32", ("cuda", "rnn"): "tf32"}


class State:
    """What was set. `own`: the word of each node, None before one was given; the rest are the old names' values."""

    own: dict[tuple[str, str], str | None] = dict.fromkeys(NODES)
    matmul = "highest"
    cudnn = True
    deterministic = False


# what kernels ask: whether products ("matmul"), convolutions ("conv") and recurrent layers ("rnn") may use TF32
tf32 = {"matmul": False, "conv": True, "rnn": True}


def get(room: str, op: str) -> str:
    """The word that holds for a node: its own, else that of the first above it which has one."""
    own = State.own[room, op]
    if own is not None and own != "none":
        return own
    for above in ((room, "all"), ("generic", "all")):
        word = State.own[above]
        if word is not None and word != "none":
            return word if word in SUPPORTED[room] else "none"
    return UNSET.get((room, op), "none") if own is None else own


def put(room: str, op: str, word: Any) -> None:
    """Gives a node its word. TypeError for no str, RuntimeError for one that there is not, or not there."""
    if not isinstance(word, str):
        raise TypeError(f"fp32_precision expects one of {', '.join(map(repr, WORDS))}, but got {word!r}")
    if word not in WORDS:
        raise RuntimeError(f"Unknown precision: {word}")
    if word not in SUPPORTED[room]:
        raise RuntimeError(f"backend '{room}' does not support precision '{word}'")
    State.own[room, op] = word
    _noted()


def _noted() -> None:
    for op in tf32:
        tf32[op] = get("cuda", op) == "tf32"


def kept() -> Any:
    """All settings, for `restore`."""
    return dict(State.own), State.matmul, State.cudnn


def restore(before: Any) -> None:
    """Puts back what `kept` gave."""
    own, State.matmul, State.cudnn = before
    State.own = dict(own)
    _noted()


# ---- the old names

_SEE = (
    "We suggest only using the new API {what}. See also: "
    "https://pytorch.org/docs/main/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices"
)


def _flag(function: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RuntimeError(f"{function} expects a bool, but got {type(value).__name__}")
    return value


def matmul_allowed() -> bool:
    """backends.cuda.matmul.allow_tf32. RuntimeError where the new name says otherwise."""
    if (State.matmul != "highest") != tf32["matmul"]:
        raise RuntimeError(
            "PyTorch is checking whether allow_tf32_new is enabled for cuBlas matmul,Current status indicate that you "
            "have used mix of the legacy and new APIs to set the TF32 status for cublas matmul. "
            + _SEE.format(what="to set the TF32 flag")
        )
    return tf32["matmul"]


def allow_matmul(value: Any) -> None:
    """Sets backends.cuda.matmul.allow_tf32. RuntimeError for no bool."""
    allowed = _flag("set_allow_tf32_cublas", value)
    State.matmul = "high" if allowed else "highest"
    put("cuda", "matmul", "tf32" if allowed else "ieee")


def cudnn_allowed() -> bool:
    """backends.cudnn.allow_tf32. RuntimeError where the new names say otherwise."""
    if not tf32["conv"] == tf32["rnn"] == State.cudnn:
        raise RuntimeError(
            "PyTorch is checking whether allow_tf32 is enabled for cuDNN without a specific operator name,but the "
            "current flag(s) indicate that cuDNN conv and cuDNN RNN have different TF32 flags.This combination "
            "indicates that you have used a mix of the legacy and new APIs to set the TF32 flags. "
            + _SEE.format(what="to set the TF32 flag(s)")
        )
    return State.cudnn


def allow_cudnn(value: Any) -> None:
    """Sets backends.cudnn.allow_tf32. RuntimeError for no bool."""
    State.cudnn = _flag("set_allow_tf32_cublas", value)  # PyTorch's own text names the other switch
    for op in ("conv", "rnn"):
        put("cuda", op, "tf32" if value else "none")


# the word of set_float32_matmul_precision -> those of the products' nodes
_PRODUCTS = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("tf32", "bf16")}


def matmul_word() -> str:
    """torch.get_float32_matmul_precision. RuntimeError where a new name says otherwise."""
    cpu = get("mkldnn", "matmul")
    wrong = tf32["matmul"] and State.matmul == "highest"
    wrong = wrong or cpu == "bf16" and State.matmul != "medium" or cpu == "tf32" and State.matmul != "high"
    if wrong:
        raise RuntimeError(
            "PyTorch is checking the matmul precision without a specific backend name,Current status indicate that you "
            "have used mix of the legacy and new APIs to set the matmul precision. "
            + _SEE.format(what="for matmul precision")
        )
    return State.matmul


def set_matmul_word(word: str) -> None:
    """torch.set_float32_matmul_precision with one of its three words."""
    State.matmul = word
    for room, precision in zip(("cuda", "mkldnn"), _PRODUCTS[word], strict=True):
        put(room, "matmul", precision)


class Precision:
    """backends.cudnn.conv and its like: an object with the attribute `fp32_precision`."""

    def __init__(self, room: str, op: str):
        self.__dict__["_node"] = (room, op)

    def tf32(self) -> bool:
        """Whether TF32 may be used there."""
        return get(*self.__dict__["_node"]) == "tf32"

    def __getattr__(self, name: str) -> str:
        if name != "fp32_precision":
            raise AttributeError("Unknown attribute " + name)
        return get(*self.__dict__["_node"])

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "fp32_precision":
            raise AttributeError("Unknown attribute " + name)
        room, op = self.__dict__["_node"]
        put(room, op, value)


def word_of(room: str, op: str = "all") -> property:
    """The attribute `fp32_precision` of a room, for its module's class."""
    return property(lambda module: get(room, op), lambda module, word: put(room, op, word))
