"""A GPU as a device: kernels in CUDA C++, products by cuBLAS, and steps replayed as graphs.

gpu.py has the class, and gets hold of a GPU.  kernels.py compiles the files *.cu and launches what
is in them, cublas.py multiplies matrices, both for a graph as well.  layers.py and fisher.py are
the methods of the device that are kernels; they neither wait for it nor bring anything back.
"""
