"""Lattices: what a search found possible, as arrays, and operations on them.

`lattice.py` has the two types, `tables.py` their form in Kaldi's archives.
"""
