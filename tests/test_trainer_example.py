"""examples/trainer.py kills itself with SIGKILL within an epoch, resumes, and compares."""

from __future__ import annotations

from test_examples import EXAMPLES, need, run


def test_killed_and_resumed_by_one_command(tmp_path):
    need("sklearn")
    text = run(EXAMPLES / "trainer.py", "--quick", "--kill-and-resume", cwd=tmp_path)
    assert "killed (exit status -9) in epoch" in text
    assert text.endswith("killed and resumed: bit for bit the run that was never killed\n")
