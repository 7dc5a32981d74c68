"""What is measured on effects, in NumPy.

metrics    matching, sparsity, transfer, overlap, order strength, cancellation, IPS
profile    how strength is spread over orders, over many prompts
recovery   which known effects are found
sharing    effects that two models share, and those that set them apart
spindle    the split of order strengths into a decay and a spindle
bootstrap  intervals
reported   which numbers are reported, and how they are averaged
"""
