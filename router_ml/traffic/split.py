"""The split: by a hash of the prompt's text, whole sessions together, so that nothing is on both sides."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["connected_groups", "split_by_hash"]


def connected_groups(prompts: NDArray[np.object_], sessions: NDArray[np.str_]) -> NDArray[np.intp]:
    """Number the groups of prompts that share a text or a session, directly or through others; shape [n]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # As objects: numpy's own strings would each take as much memory as the longest.
    _, by_text = np.unique(prompts.astype(np.object_), return_inverse=True)
    _, by_session = np.unique(sessions, return_inverse=True)
    n = len(prompts)
    # Prompts, texts and sessions are the nodes; a prompt without a session stands alone.
    in_session = np.flatnonzero(sessions != "")
    rows = np.concatenate([np.arange(n), in_session])
    columns = np.concatenate([n + by_text, 2 * n + by_session[in_session]])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(3 * n, 3 * n))
    _, component = connected_components(graph, directed=False)
    groups: NDArray[np.intp] = np.unique(component[:n], return_inverse=True)[1]
    return groups


def split_by_hash(
    prompts: NDArray[np.object_], sessions: NDArray[np.str_], *, test_share: float, random_state: int = 0
) -> NDArray[np.bool_]:
    """Choose the test prompts.

    Parameters
    ----------
    prompts, sessions : array [n]
        Texts, and session ids (empty: none).
    test_share : float
        Expected share of test prompts, in [0, 1].
    random_state : int
        Salt of the hash: another one gives another split.

    Returns
    -------
    array [n] of bool
        True for test. A group's side depends on its texts and the salt alone, not on the order or the other prompts.
    """
    groups = connected_groups(prompts, sessions)
    smallest: dict[int, bytes] = {}
    for group, prompt in zip(groups.tolist(), prompts, strict=True):
        digest = hashlib.sha256(f"{random_state}\n{prompt}".encode()).digest()
        smallest[group] = min(digest, smallest.get(group, digest))
    # Hashed again, since the smallest of several hashes is small more often than one.
    bound = int(test_share * 2**64)
    in_test = {g: int.from_bytes(hashlib.sha256(d).digest()[:8], "big") < bound for g, d in smallest.items()}
    return np.array([in_test[g] for g in groups.tolist()], dtype=bool)
