"""The benchmark suite: `python -m benchmarks` from the repository's root. docs/benchmarks.md says how it measures."""
