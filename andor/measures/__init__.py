"""What is measured on effects, in NumPy.

metrics  matching, sparsity, transfer, overlap, order strength, cancellation, IPS
spindle  the split of order strengths into a decay and a spindle
"""
