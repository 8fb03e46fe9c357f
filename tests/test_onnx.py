"""torch.onnx.export: models and layers, checked by onnx's own checker and run by onnxruntime in other sizes."""

from __future__ import annotations

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
F = nn.functional


def exported(model, args, axes=None, **options):
    """The program, checked in full; compared with the model on the examples and on other sizes."""
    program = torch.onnx.export(model, args, dynamic_axes=axes, verify=True, **options)
    onnx.checker.check_model(program.model_proto, full_check=True)
    onnx.shape_inference.infer_shapes(program.model_proto, strict_mode=True, data_prop=True)
    return program


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.pool, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Linear(128, 5)  # fmt: skip

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        return self.head(x.view(x.shape[0], -1))


def test_an_mlp_and_a_conv_net_with_a_dynamic_batch():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4), nn.Softmax(-1))
    program = exported(mlp, (torch.randn(3, 8),), {"input": {0: "batch"}})
    assert [n.op_type for n in program.model_proto.graph.node] == ["Gemm", "Relu", "Gemm", "Softmax", "Identity"]
    assert {t.name for t in program.model_proto.graph.initializer} == set(mlp.state_dict())
    assert mlp.training  # as before

    net = ConvNet().eval()
    program = exported(net, (torch.randn(2, 3, 8, 8),), {"x": {0: "batch"}})
    for batch in (1, 7):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.allclose(program(x)[0], net(x), atol=1e-5)
    with pytest.raises(Exception, match="(?i)invalid|dimension"):
        program(torch.randn(2, 3, 10, 8))
    assert np.isfinite(program(x)[0].numpy()).all()
