"""Where computations run.

mesh       devices in a grid: masks along one axis, weights along the other
processes  several processes that run the same program
memory     what fits, and what does not
"""
