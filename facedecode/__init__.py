"""facedecode: face-recognition templates back into faces, and figures on the space they live in.

The library is imported part by part (`from facedecode.store import Store`); importing the package alone stays
cheap and free of torch.
"""

__version__ = "0.1.0"
