"""Mutation testing: `make mutants` changes the code in small ways, and tests must fail.

mutmut rewrites functions so that their signatures, from which options are read, are
lost; cosmic-ray cannot draw a sample. So the mutations are made here.
"""
