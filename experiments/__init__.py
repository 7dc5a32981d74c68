"""One module per figure, table, ablation or benchmark of this repository; `python -m experiments` lists them."""
