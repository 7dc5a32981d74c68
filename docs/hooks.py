"""Hooks of mkdocs: the site takes pictures and numbers from figures/, beside docs/, where the studies write them.

Pages link to them as ../figures/NAME, which a reader of the repository can follow too.
"""

from pathlib import Path

from mkdocs.structure.files import File

FIGURES = Path(__file__).parent.parent / "figures"


def on_files(files, config):
    for path in sorted(FIGURES.iterdir()):
        if path.suffix in (".png", ".md"):
            files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, **_):
    return markdown.replace("](../figures/", "](figures/")
