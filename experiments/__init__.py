"""`studies/` has a file for each figure, `benchmarks/` a script for each table of costs, `lab/` what they work with.

`python -m experiments` lists them.
"""
