"""Triton kernels of the CUDA path. Import them only where triton is installed.

Each file holds one fusion and knows nothing of the others; `reference` says in plain torch what
they compute. The wrappers allocate nothing but their result (paged_decode also its partial
results) and never wait for the device, so all of them may be captured in a CUDA graph.
"""
