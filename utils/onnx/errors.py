"""What `torch.onnx.export` raises, under PyTorch's names."""

from __future__ import annotations

from typing import Any

__all__ = ["OnnxExporterError", "UnsupportedOperatorError"]


class OnnxExporterError(RuntimeError):
    """A model that cannot be written as ONNX: the text says where, why, and what to do."""


class UnsupportedOperatorError(OnnxExporterError):
    """An op that has no form in ONNX, or not with these arguments."""

    def __init__(self, op: str, reason: str, call: Any = None, remedy: str = ""):
        self.op = op
        place = "" if call is None else f" (in module {call.module or 'the model'}, at {call.where})"
        remedy = remedy or (
            "Compute it with other functions, outside the model, or give "
            f"custom_translation_table={{'{op}': function}}, which emits ONNX nodes for it."
        )
        super().__init__(f"cannot export the op '{op}'{place}: {reason}. {remedy}")


class UnknownSizeError(UnsupportedOperatorError):
    """A size that is no known function of the dynamic axes; more traces may show of which it is."""
