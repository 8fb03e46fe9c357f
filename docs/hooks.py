"""What the site takes from elsewhere in the repository: the charts of the benchmark page, beside their JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
LINK = "../benchmarks/results/"


def on_files(files: Any, config: Any) -> Any:
    """The charts that a page shows become files of the site, under results/."""
    text = "".join(file.content_string for file in files.documentation_pages())
    for path in sorted(RESULTS.glob("*.png")):
        if LINK + path.name in text:
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to the charts name their place in the site."""
    return markdown.replace(LINK, "../" * page.file.src_uri.count("/") + "results/")
