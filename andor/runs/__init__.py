"""A run: explanations of models on prompts, computed once and kept.

explanation  the noun: prompt, values and certified effects, in words
explain      one prompt under one model, without a folder
run          explanations of many models and prompts, as a folder holds them
compare      the front door: what is asked for becomes a recipe, and work
recipe       what was asked, and the rule of one unfinished run per root
work         what one process does: get what is there, compute the rest
cache        what a root holds under content keys
files        files that are whole or not there, local or in a store
stages       what long work says of itself
summary      the numbers of a run
provenance   where numbers come from
"""
