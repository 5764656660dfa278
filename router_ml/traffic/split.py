"""The split: by a hash of the prompt's text, sessions and near duplicates together, so that nothing is on both sides."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.traffic.cleaning.duplicates import find_duplicates
from router_ml.traffic.observations import Observations

__all__ = ["MAX_GROUP_SHARE", "connected_groups", "keep_together", "split_by_hash"]

MAX_GROUP_SHARE = 0.1
"""Prompts that near duplicates join to more than this share of all have a template, or a greeting, in common: it will be asked again, and
held out whole they would leave folds of very different sizes."""


def keep_together(observations: Observations) -> Observations:
    """The same prompts, their sessions joined where they hold near duplicates, so that a split by session keeps those together too.

    Parameters
    ----------
    observations : Observations
        Of n prompts.

    Returns
    -------
    Observations
        Its ``session_id`` is the smallest prompt id of all that belong together: through a session, or through texts that are equal or
        nearly so (:func:`router_ml.traffic.cleaning.duplicates.find_duplicates`); empty for a prompt that stands alone.

    Notes
    -----
    Where near duplicates would join more than `MAX_GROUP_SHARE` of the prompts, these are joined by sessions and equal texts alone.
    """
    ids = observations.prompt_id
    frame = pl.DataFrame({"prompt_id": ids.tolist(), "prompt": observations.prompt.tolist()})
    near = dict(find_duplicates(frame).groups.iter_rows())
    apart = connected_groups(observations.prompt, observations.session_id)
    together = _joined(_numbered([near[i] for i in ids.tolist()]), apart)
    too_many = np.bincount(together)[together] > MAX_GROUP_SHARE * len(ids)
    groups = np.where(too_many, together.max(initial=0) + 1 + apart, together)
    _, first, place, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    # Prompts are sorted by id, so the first of a group has its smallest.
    names = np.where(sizes > 1, ids[first], "")
    return dataclasses.replace(observations, session_id=names[place])


def connected_groups(prompts: NDArray[np.object_], sessions: NDArray[np.str_]) -> NDArray[np.intp]:
    """Number the groups of prompts that share a text or a session, directly or through others; shape [n]."""
    n = len(prompts)
    by_session = _numbered(sessions)
    # A prompt without a session stands alone.
    return _joined(_numbered(prompts), np.where(sessions == "", n + np.arange(n), by_session))


def _numbered(names: NDArray[np.object_] | NDArray[np.str_] | list[str]) -> NDArray[np.intp]:
    # As objects: numpy's own strings would each take as much memory as the longest.
    numbers: NDArray[np.intp] = np.unique(np.asarray(names, dtype=np.object_), return_inverse=True)[1]
    return numbers


def _joined(first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Number the groups of what shares a number in either, directly or through others; shape [n]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # What is numbered, and the numbers of both kinds, are the nodes.
    n, n_first = len(first), int(first.max(initial=-1)) + 1
    n_nodes = n + n_first + int(second.max(initial=-1)) + 1
    rows, columns = np.tile(np.arange(n), 2), np.concatenate([n + first, n + n_first + second])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n_nodes, n_nodes))
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
