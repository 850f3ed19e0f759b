"""What CuPy does not have: the kernels of a training step, in CUDA C++, and its replay as a graph.

kernels.py compiles the files *.cu and launches what is in them; layers.py and fisher.py are the
functions over arrays that nnet.backend and nnet.natural_gradient call on a GPU.  No function here
waits for the device or brings anything back from it.
"""
