"""The one place where the version is written; pyproject.toml reads it from here without importing anything."""

__version__ = "0.1.0"
cuda: str | None = None  # PyTorch programs print `torch.version.cuda`: this package is built against no CUDA
