"""What CuPy does not have: the kernels of a training step, in CUDA C++, and its replay as a graph.

device.py gets hold of a GPU, and tries it.  kernels.py compiles the files *.cu and launches what is
in them, cublas.py multiplies matrices, both for a graph as well.  layers.py and fisher.py are the
functions over arrays that nnet.device.backend and nnet.natural_gradient call on a GPU; they neither
wait for the device nor bring anything back from it.
"""
