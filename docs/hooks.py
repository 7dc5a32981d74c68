"""Hooks of mkdocs: the site takes pages from beside docs/, and pictures and numbers from figures/, where studies write
them.

Pages link to them as ../NAME, and those to pages as docs/NAME, which a reader of the repository can follow too.
"""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent


def on_files(files, config):
    for path in (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "figures").iterdir())):
        if path.suffix in (".png", ".md"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, **_):
    return markdown.replace("](../", "](").replace("](docs/", "](")
