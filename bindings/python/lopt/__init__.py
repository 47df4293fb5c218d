"""lopt: train with a learned optimizer.

    import lopt.torch
    optimizer = lopt.torch.Lopt(model.named_parameters())      # then as any torch.optim: zero_grad, backward, step

For C and C++ the header and the libraries are in this package: `python -m lopt --cflags --libs`. Without PyTorch,
lopt.Optimizer takes whatever has floats in one piece of memory: numpy arrays, array.array.
"""

from ._library import Error, Optimizer, include_dir, library_dir, version

__version__ = version()
__all__ = ["Error", "Optimizer", "include_dir", "library_dir"]
