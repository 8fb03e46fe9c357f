"""torch.onnx: models written as ONNX, by tracing at the door that every op passes. See docs/onnx.md."""

from __future__ import annotations

from ...autograd.exporting import is_exporting as is_in_onnx_export
from . import errors as errors
from .errors import OnnxExporterError as OnnxExporterError
from .errors import UnsupportedOperatorError as UnsupportedOperatorError
from .exporting import DEFAULT_OPSET as DEFAULT_OPSET
from .exporting import OPSETS as OPSETS
from .exporting import export as export
from .program import ONNXProgram as ONNXProgram

__all__ = ["ONNXProgram", "OnnxExporterError", "UnsupportedOperatorError", "errors", "export", "is_in_onnx_export"]
