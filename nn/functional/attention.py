"""Attention: PyTorch's signatures over the op in autograd/ops/attention.py."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ...autograd.api.creation import new_like, zeros
from ...autograd.api.join import cat
from ...autograd.coerce import broadcast_text
from ...autograd.op import GRAPH
from ...autograd.ops import attention as op
from ...autograd.tensor import Tensor
from .activation import softmax
from .dropout import dropout
from .linear import linear

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query key^T * scale + attn_mask) value. query: (*, L, E), key: (*, S, E), value: (*, S, V) -> (*, L, V).

    attn_mask: broadcasts to (*, L, S); bool, True where a key takes part, or of query's dtype, added to the scores.
    dropout_p: always applied; give 0 in evaluation. is_causal: query i sees keys 0..i. scale: 1 / sqrt(E) by default.
    enable_gqa: each head of key and value serves several heads of query. A query that sees no key gives zeros.
    Vaswani et al., Attention is all you need, 2017.
    """
    _check(query, key, value, attn_mask, is_causal)
    if dropout_p > 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {dropout_p:g}")
    if enable_gqa:
        key, value = _repeated_heads(query, key), _repeated_heads(query, value)
    if attn_mask is not None and attn_mask.dtype.name != "bool":
        attn_mask = attn_mask.to(query.dtype)
    query, key, value = _fitting(query, key, value, attn_mask)
    keep = None
    if dropout_p > 0:
        shape = (*query.array.shape[:-1], key.array.shape[-2])
        keep = new_like(query, np.ones(shape, query.array.dtype))
        keep = dropout(keep, dropout_p)
    factor = 1 / math.sqrt(query.array.shape[-1] or 1) if scale is None else float(scale)
    return op.attention(query, key, value, attn_mask, keep, causal=bool(is_causal), scale=factor)


def _fitting(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> list[Tensor]:
    """The three with the same leading dimensions. RuntimeError for sizes that do not fit."""
    q, k, v = (t.array.shape for t in (query, key, value))
    shapes = [q[:-2], k[:-2], v[:-2]]
    text = broadcast_text(shapes[:2]) or broadcast_text(shapes[::2])
    if text is not None:
        raise RuntimeError(text)
    lead = np.broadcast_shapes(*shapes)
    _check_mask((*lead, q[-2], k[-2]), mask)
    heads = math.prod(lead)
    for rows, columns, other in ((k[-2], q[-1], k[-1]), (0, k[-2], v[-2])):
        if columns != other:
            if not lead and rows:
                raise RuntimeError(
                    f"mat1 and mat2 shapes cannot be multiplied ({q[-2]}x{columns} and {other}x{rows})"
                )
            raise RuntimeError(
                "Expected size for first two dimensions of batch2 tensor to be: "
                f"[{heads}, {columns}] but got: [{heads}, {other}]."
            )
    if all(s == lead for s in shapes):
        return [query, key, value]
    return [GRAPH.expand(t, shape=(*lead, *t.array.shape[-2:])) for t in (query, key, value)]


def _check_mask(scores: tuple[int, ...], mask: Tensor | None) -> None:
    """RuntimeError for a mask that does not broadcast to the scores."""
    if mask is None:
        return
    text = broadcast_text([scores, mask.array.shape])
    if text is not None:
        raise RuntimeError(text)
    full = np.broadcast_shapes(scores, mask.array.shape)
    if full != scores:
        raise RuntimeError(f"output with shape {list(scores)} doesn't match the broadcast shape {list(full)}")


_C_NAMES = {"float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}
_C_NAMES |= {"int64": "long int", "int32": "int", "int16": "short int", "int8": "signed char", "uint8": "unsigned char"}


def _check(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool) -> None:
    tensors = (query, key, value)
    kinds = [_C_NAMES.get(t.dtype.name, t.dtype.name) for t in tensors]
    if len(set(kinds)) > 1:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {kinds[0]} key.dtype: "
            f"{kinds[1]} and value.dtype: {kinds[2]} instead."
        )
    if any(t.array.ndim < 2 for t in tensors):
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got "
            f"query.dim: {query.dim()} key.dim: {key.dim()} and value.dim: {value.dim()} instead."
        )
    if query.array.dtype.kind not in "fV":
        raise RuntimeError(f"expected scalar type Float but found {query.type().split('.')[-1][:-6]}")
    if attn_mask is not None:
        if is_causal:
            raise RuntimeError(
                "_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"
            )
        if attn_mask.dtype.name not in ("bool", "float32", query.dtype.name):
            raise RuntimeError(
                "Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
                f"{_C_NAMES.get(attn_mask.dtype.name)} and  query.dtype: {kinds[0]} instead."
            )


def _repeated_heads(query: Tensor, t: Tensor) -> Tensor:
    """Each head of t as often as query has heads for it. t: (*, H, S, E) -> (*, heads of query, S, E)."""
    heads, mine = query.array.shape[-3], t.array.shape[-3]
    if heads == mine:
        return t
    if not mine or heads % mine:
        raise RuntimeError("Number of heads in key and value must divide the number of heads in query")
    return t.repeat_interleave(heads // mine, -3)


# ---- several heads


def canonical_mask(mask: Tensor | None, mask_name: str, other: Tensor | None, other_name: str, dtype: Any) -> Any:
    """A mask to be added: 0 and -inf in `dtype` for False and True of a bool mask; a floating mask as it is.

    `other`: a mask that should have the same dtype, or there is a warning. AssertionError for integers.
    """
    if mask is None:
        return None
    if mask.dtype.name != "bool" and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {mask_name} are supported")
    if other is not None and other.dtype != mask.dtype:
        warnings.warn(
            f"Support for mismatched {mask_name} and {other_name} is deprecated. Use same type for both instead.",
            stacklevel=3,
        )
    if mask.is_floating_point():
        return mask
    return zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)


def _check_ranks(
    query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Any, attn_mask: Any, num_heads: int
) -> bool:
    """Whether the input is batched. AssertionError where the ranks do not fit together."""
    dims = query.dim()
    if dims not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {dims}-D query tensor"
        )
    of = f"For {'batched (3-D)' if dims == 3 else 'unbatched (2-D)'} `query`, expected"
    if key.dim() != dims or value.dim() != dims:
        raise AssertionError(
            f"{of} `key` and `value` to be {dims}-D but found {key.dim()}-D and {value.dim()}-D tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.dim() != dims - 1:
        raise AssertionError(
            f"{of} `key_padding_mask` to be `None` or {dims - 1}-D but found {key_padding_mask.dim()}-D tensor instead"
        )
    if attn_mask is not None:
        if attn_mask.dim() not in (2, 3):
            raise AssertionError(
                f"{of} `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.dim()}-D tensor instead"
            )
        wanted = (num_heads, query.shape[0], key.shape[0])
        if dims == 2 and attn_mask.dim() == 3 and tuple(attn_mask.shape) != wanted:
            raise AssertionError(f"Expected `attn_mask` shape to be {wanted} but got {attn_mask.shape}")
    return dims == 3


def _packed_projection(q: Tensor, k: Tensor, v: Tensor, w: Tensor | None, b: Tensor | None) -> list[Tensor]:
    """q, k and v times their thirds of one matrix w (3 E, E): one product for those that are the same tensor."""
    if w is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    e = w.array.shape[1]
    if k is v and q is k:
        return list(GRAPH.linear(q, w, b).split(e, -1))
    if k is v:
        parts = [None, None] if b is None else b.split([e, 2 * e])
        w_q, w_kv = w.split([e, 2 * e])
        return [linear(q, w_q, parts[0]), *linear(k, w_kv, parts[1]).split(e, -1)]
    biases = [None] * 3 if b is None else b.chunk(3)
    return [linear(t, part, bias) for t, part, bias in zip((q, k, v), w.chunk(3), biases, strict=True)]


def _separate_projection(tensors: Any, weights: Any, b: Tensor | None) -> list[Tensor]:
    """q, k and v times a matrix each. AssertionError for matrices that do not fit."""
    e, found = tensors[0].size(-1), []
    biases = [None] * 3 if b is None else b.chunk(3)
    for t, w, bias, word in zip(tensors, weights, biases, ("query", "key", "value"), strict=True):
        if w is None:
            raise AssertionError(f"use_separate_proj_weight is True but {word[0]}_proj_weight is None")
        if tuple(w.shape) != (e, t.size(-1)):
            raise AssertionError(f"expecting {word} weights shape of {(e, t.size(-1))}, but got {w.shape}")
        if bias is not None and tuple(bias.shape) != (e,):
            raise AssertionError(f"expecting {word} bias shape of {(e,)}, but got {bias.shape}")
        found.append(linear(t, w, bias))
    return found


def _attention_mask(mask: Tensor | None, length: int, sources: int, heads: int) -> Tensor | None:
    """attn_mask as (1 or N * heads, L, S). RuntimeError for another shape."""
    if mask is None:
        return None
    wanted = (length, sources) if mask.dim() == 2 else (heads, length, sources)
    if mask.dim() not in (2, 3):
        raise RuntimeError(f"attn_mask's dimension {mask.dim()} is not supported")
    if tuple(mask.shape) != wanted:
        raise RuntimeError(f"The shape of the {mask.dim()}D attn_mask is {mask.shape}, but should be {wanted}.")
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _one_more(mask: Tensor | None) -> Tensor | None:
    """A mask that also shows a key behind the last one."""
    if mask is None:
        return None
    return cat([mask, mask.new_zeros((*mask.shape[:-1], 1))], -1)


def _in_heads(t: Tensor, heads: int, width: int) -> Tensor:
    """(M, N, E) -> (N * heads, M, width)."""
    return t.reshape(t.shape[0], heads, width).transpose(0, 1)


def _static(t: Tensor, name: str, heads: int, width: int) -> Tensor:
    for place, wanted in ((0, heads), (2, width)):
        if t.size(place) != wanted:
            raise AssertionError(f"expecting {name}.size({place}) of {wanted}, but got {t.size(place)}")
    return t


def _needs_no_mask(causal: bool, attn_mask: Tensor | None, padding: Tensor | None, need_weights: bool) -> bool:
    """Whether the fused op's own causal mask can stand for attn_mask, as the caller says. RuntimeError without one."""
    if causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
            "`generate_square_subsequent_mask` to create this mask."
        )
    return causal and padding is None and not need_weights


def _check_sizes(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int, separate: bool) -> None:
    width = query.array.shape[2]
    if width != embed_dim:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim}, but got {width}")
    if width % num_heads:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if separate:
        if key.shape[:2] != value.shape[:2]:
            raise AssertionError(
                f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
            )
    elif key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")


def _with_biases(k: Tensor, v: Tensor, bias_k: Any, bias_v: Any, static_k: Any, static_v: Any) -> tuple[Tensor, Tensor]:
    """k and v (S, N, E) with one more element each where there are biases."""
    if bias_k is None and bias_v is None:
        return k, v
    if bias_k is None or bias_v is None:
        words = ("bias_v", "bias_k") if bias_k is None else ("bias_k", "bias_v")
        raise AssertionError(f"{words[0]} is set but {words[1]} is None")
    for t, word in ((static_k, "key"), (static_v, "value")):
        if t is not None:
            raise AssertionError(f"bias cannot be added to static {word}.")
    batch = k.shape[1]
    return cat([k, bias_k.repeat(1, batch, 1)]), cat([v, bias_v.repeat(1, batch, 1)])


def _padding(mask: Tensor, batch: int, sources: int, heads: int) -> Tensor:
    """key_padding_mask (N, S), to be added, as (N * heads, 1, S)."""
    if mask.shape[0] != batch:
        raise AssertionError(f"Expected key_padded_mask.shape[0] to be {batch}, but got {mask.shape[0]}")
    if mask.shape[1] != sources:
        raise AssertionError(f"Expected key_padded_mask.shape[1] to be {sources}, but got {mask.shape[1]}")
    return mask.view(batch, 1, 1, sources).expand(-1, heads, -1, -1).reshape(batch * heads, 1, sources)


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention of several heads between linear maps. query: (L, N, E) or (L, E), key, value: (S, N, *) or (S, *).

    -> (L, N, E) or (L, E), and with need_weights the weights (N, L, S), or (N, heads, L, S) where not averaged.
    key_padding_mask: (N, S), True (or -inf, added) where a key is padding; attn_mask: (L, S) or (N * heads, L, S).
    """
    batched = _check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        same = key is value, query is key
        query = query.unsqueeze(1)
        key = query if all(same) else key.unsqueeze(1)
        value = key if same[0] else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.array.shape
    heads = batch * num_heads
    key_padding_mask = canonical_mask(key_padding_mask, "key_padding_mask", attn_mask, "attn_mask", query.dtype)
    is_causal = _needs_no_mask(is_causal, attn_mask, key_padding_mask, need_weights)
    attn_mask = None if is_causal else canonical_mask(attn_mask, "attn_mask", None, "", query.dtype)
    _check_sizes(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = _separate_projection((query, key, value), weights, in_proj_bias)
    else:
        q, k, v = _packed_projection(query, key, value, in_proj_weight, in_proj_bias)
    attn_mask = _attention_mask(attn_mask, length, key.array.shape[0], heads)
    k, v = _with_biases(k, v, bias_k, bias_v, static_k, static_v)
    more = int(bias_k is not None)
    head = width // num_heads
    q = _in_heads(q, heads, head)
    k = _in_heads(k, heads, head) if static_k is None else _static(static_k, "static_k", heads, head)
    v = _in_heads(v, heads, head) if static_v is None else _static(static_v, "static_v", heads, head)
    if add_zero_attn:
        k, v = (cat([t, t.new_zeros((heads, 1, head))], 1) for t in (k, v))
        more += 1
    for _ in range(more):
        attn_mask, key_padding_mask = _one_more(attn_mask), _one_more(key_padding_mask)
    if key_padding_mask is not None:
        padding = _padding(key_padding_mask, batch, k.array.shape[1], num_heads)
        attn_mask = padding if attn_mask is None else attn_mask + padding
    p = dropout_p if training else 0.0
    attend = _weighted_heads if need_weights else _fused_heads
    out, shown = attend(q, k, v, attn_mask, p, is_causal, num_heads)
    out = linear(out.transpose(0, 1).reshape(length * batch, width), out_proj_weight, out_proj_bias)
    out = out.view(length, batch, out.array.shape[1])
    if shown is not None:
        shown = shown.mean(1) if average_attn_weights else shown
        shown = shown if batched else shown.squeeze(0)
    return (out if batched else out.squeeze(1)), shown


def _weighted_heads(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, num_heads: int
) -> tuple[Tensor, Tensor]:
    """(output (N * heads, L, E), weights (N, heads, L, S))."""
    scores = GRAPH.bmm(q * math.sqrt(1.0 / q.array.shape[-1]), GRAPH.mT(k))
    weights = softmax(scores if mask is None else mask + scores, dim=-1)
    weights = dropout(weights, p) if p > 0 else weights
    return GRAPH.bmm(weights, v), weights.unflatten(0, (len(weights) // num_heads, num_heads))


def _fused_heads(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float, causal: bool, num_heads: int
) -> tuple[Tensor, None]:
    """The output (N * heads, L, E)."""
    return scaled_dot_product_attention(q, k, v, mask, p, causal), None
