"""Where computations run.

mesh         devices in a grid: masks along one axis, weights along the other
processes    several processes that run the same program
shards       which part of the prompts is whose
memory       what fits, and what does not
rules        JAX's settings inside this package
compilation  compiled programs that outlive the process
"""
