"""A real model of vLLM's, with real weights, computes the same whichever way they came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertModel
from vllm.config import ModelConfig, set_current_vllm_config
from vllm_engine import (
    Opening,
    bert,
    config,
    embed,
    loader,
    prepare_bert,
    seen,
    world,
)


@pytest.fixture(autouse=True)
def host(openings: list[Opening], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    prepare_bert(monkeypatch.setattr)
    with world(tmp_path):
        yield


def test_bert_computes_what_it_computes_from_safetensors(minilm: Path, openings: list[Opening]) -> None:
    """vLLM's BertEmbeddingModel as its registry and `load_model` build it: the parallel embeddings, the stacked
    query, key and value, all linear layers and norms with their own weight loaders, and `forward` through all six
    layers. Not vLLM's: attention itself, which has no weights and is torch's here. Not run: the pooler.
    """
    ours = bert(minilm, "instanttensor")
    (opening,) = openings
    theirs = bert(minilm, "safetensors")
    assert len(openings) == 1
    assert opening.stats["bytes"] == 90_856_960
    assert seen(ours.named_parameters()) == seen(theirs.named_parameters())
    found = embed(ours)
    assert torch.equal(found, embed(theirs))
    # And it is the model, not any function of equal weights.
    reference = BertModel.from_pretrained(minilm, dtype=torch.float32).eval()
    tokens = torch.tensor([[101, 7592, 1010, 2088, 999, 2129, 2024, 102]])
    with torch.inference_mode():
        torch.testing.assert_close(found, reference(tokens).last_hidden_state[0], rtol=1e-4, atol=1e-5)


def test_weights_are_loaded_again_into_the_same_model(minilm: Path, openings: list[Opening]) -> None:
    model = bert(minilm, "instanttensor")
    expected = seen(model.named_parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert not any(parameter.any() for parameter in model.parameters())
    model_config = ModelConfig(model=str(minilm), runner="pooling", enforce_eager=True, dtype="float32")
    with set_current_vllm_config(config("instanttensor", model_config)):
        loader("instanttensor").load_weights(model, model_config)
    assert len(openings) == 2
    assert seen(model.named_parameters()) == expected
