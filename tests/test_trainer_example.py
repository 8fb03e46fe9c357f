"""examples/trainer.py kills itself with SIGKILL within an epoch, resumes, and compares."""

from __future__ import annotations

import numpy as np
from test_examples import EXAMPLES, run


def test_killed_and_resumed_by_one_command(tmp_path):
    """On small files of MNIST's form, in which each class is a bright place of its own."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 480), ("t10k", 100)):
        labels = rng.integers(10, size=count).astype(np.uint8)
        images = rng.integers(100, size=(count, 8, 8)).astype(np.uint8)
        images.reshape(count, 64)[np.arange(count), 6 * labels.astype(int) + 2] = 255
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = b"\x00\x00\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    text = run(EXAMPLES / "trainer.py", "--data", str(tmp_path), "--quick", "--kill-and-resume", cwd=tmp_path)
    assert "killed (exit status -9) in epoch" in text
    assert text.endswith("killed and resumed: bit for bit the run that was never killed\n")
