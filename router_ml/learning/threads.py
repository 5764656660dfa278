"""One thread for numpy, scipy, scikit-learn and torch while a router is trained, exported or evaluated.

Our matrices are small, so that a second thread of BLAS or OpenMP gains little on a quiet machine. On a busy one such threads
spin while they wait for one that has no core, and a fit takes many times as long. How sums are split among threads also
decides their last bits: on one thread, the same input gives the same artifact whatever the machine's number of cores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["single_threaded"]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Run BLAS, OpenMP and torch on one thread; afterwards, restore the numbers of threads of before.

    A context manager and, as ``@single_threaded()``, a decorator; one may stand inside another.

    Notes
    -----
    Only libraries that are loaded can be bounded, and scipy and scikit-learn bring their own: they are loaded first. torch takes
    seconds to load and is bounded where it is loaded already: what imports torch enters this context after the import.

    The numbers are the process's own, for as long as the context lasts: other Python threads of it run BLAS on one thread, too.
    No environment variable is set.
    """
    import scipy.linalg  # noqa: F401
    import sklearn  # noqa: F401
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    n_torch = None if torch is None else torch.get_num_threads()
    with threadpool_limits(limits=1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(n_torch)
