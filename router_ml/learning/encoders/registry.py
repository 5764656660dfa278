"""Encoders by name."""

from __future__ import annotations

from router_ml.errors import InputError, MissingExtraError
from router_ml.learning.encoders.base import Encoder
from router_ml.learning.encoders.joined import JoinedEncoder
from router_ml.learning.encoders.openai import OpenAIEncoder
from router_ml.learning.encoders.static import StaticEncoder, load_wordllama
from router_ml.learning.encoders.transformer import TransformerEncoder

__all__ = ["load_encoder"]


def load_encoder(name: str) -> Encoder:
    """Load an encoder.

    Parameters
    ----------
    name : str
        ``"static"``: the token vectors of the ``wordllama`` package; ``"openai:MODEL"``: an OpenAI-compatible API; else
        a sentence-transformers model, by folder or hub name. Several, with commas between them, are used together; the first
        one's tokenizer is the artifact's.

    Raises
    ------
    InputError
        If there is no such model, or it can't be loaded.
    MissingExtraError
        If the packages that it needs aren't installed.
    """
    names = [part.strip() for part in name.split(",")]
    if len(names) > 1:
        if "" in names or len(set(names)) < len(names):
            raise InputError(f"The encoders {name!r} have one without a name, or one twice; name each once.")
        return JoinedEncoder([load_encoder(part) for part in names], name)
    if name.startswith("openai:"):
        return OpenAIEncoder(name.removeprefix("openai:"))
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    except ImportError as exc:
        raise MissingExtraError("train", f"The encoder {name!r}") from exc
    if name == "static":
        return StaticEncoder(load_wordllama(), name)
    try:
        model = SentenceTransformer(name, device="cpu")
    except Exception as exc:  # the hub's, transformers' and safetensors' errors share no base
        raise InputError(
            f"The encoder {name!r} can't be loaded ({exc!s:.300}). Give 'static', 'openai:MODEL', or the folder or hub name of a "
            "sentence-transformers model."
        ) from exc
    if isinstance(model[0], StaticEmbedding):
        if any(not isinstance(m, Normalize) for m in list(model)[1:]):
            raise InputError(
                f"The encoder {name!r} has modules after its StaticEmbedding that aren't Normalize; it can't be used."
            )
        return StaticEncoder(model, name)
    return TransformerEncoder(model, name)
