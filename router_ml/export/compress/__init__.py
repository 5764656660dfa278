"""Smaller artifacts, made from an artifact: fewer bytes a weight, fewer rows in the tables.

Of a static encoder's artifact most are tables with a row for each token, word or pair of words. onnxruntime turns what is stored here
back into one float32 table when it loads the file, so that a decision takes as long as before, and as much memory. A transformer's
products are done in whole numbers, which is faster.
"""

from router_ml.export.compress.comparison import TOLERANCES, Compression
from router_ml.export.compress.smaller import compress
from router_ml.export.compress.storage import Weights
from router_ml.export.compress.tables import WEIGHTS, prune_tokens, quantize_table
from router_ml.export.compress.transformer import quantize_transformer

__all__ = [
    "TOLERANCES",
    "WEIGHTS",
    "Compression",
    "Weights",
    "compress",
    "prune_tokens",
    "quantize_table",
    "quantize_transformer",
]
