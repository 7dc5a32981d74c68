"""The page of a run: one HTML file that shows every prompt, masks words by click, and needs no network.

    report.py    fills the page from a run
    vector.py    figures as SVG inside a page, small
    terms.py     what every row of the closing tables means
    notebook.py  what notebooks show of an explanation and of a run
    page.html, page.css, page.js    the page itself; no library is used

The room below `andor.runs`, beside `andor.figures`: it reads runs, and neither makes nor writes them.
"""

from andor.page.report import page

__all__ = ["page"]
