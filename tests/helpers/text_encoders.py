"""Tiny random text encoders, and tokenizers that know eight letters."""

from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = "abcdefgh"


def clip(width: int = 8, projected: bool = False, length: int = 16) -> Any:
    """Return a text encoder of CLIP."""
    config = transformers.CLIPTextConfig(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=length, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=width,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config).eval()


def clip_tokenizer() -> Any:
    """Return a tokenizer of CLIP that knows eight letters."""
    special = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    words = {f"{word}</w>": place + 2 for place, word in enumerate(WORDS)}
    return transformers.CLIPTokenizer(vocab=special | words, merges=[], model_max_length=16)


def tokenizer(length: int = 16) -> Any:
    """Return a tokenizer that knows eight letters, as those of T5, Gemma and others are used."""
    known = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: place + 3 for place, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length,
        chat_template="{{ messages[0]['content'] }}",
    )  # fmt: skip


def t5(width: int = 8) -> Any:
    """Return an encoder of T5."""
    config = transformers.T5Config(
        vocab_size=20, d_model=width, d_ff=8, d_kv=4, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1,
        is_gated_act=True, dense_act_fn="gelu_new",
    )  # fmt: skip
    return transformers.T5EncoderModel(config).eval()


def umt5(width: int = 8) -> Any:
    """Return an encoder of UMT5."""
    config = transformers.UMT5Config(
        vocab_size=20, d_model=width, d_ff=8, d_kv=4, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return transformers.UMT5EncoderModel(config).eval()


def gemma(width: int = 8) -> Any:
    """Return a text model of Gemma 2."""
    config = transformers.Gemma2Config(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    return transformers.Gemma2Model(config).eval()


def glm(width: int = 8) -> Any:
    """Return a text model of GLM."""
    config = transformers.GlmConfig(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return transformers.GlmModel(config).eval()


def bert(width: int = 8) -> Any:
    """Return a text model of BERT."""
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=80, pad_token_id=0,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def llama(width: int = 8) -> Any:
    """Return a text model of Llama."""
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    return transformers.LlamaModel(config).eval()


def qwen3(width: int = 8, head: bool = False) -> Any:
    """Return a text model of Qwen 3."""
    config = transformers.Qwen3Config(
        vocab_size=20, hidden_size=width, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    kind = transformers.Qwen3ForCausalLM if head else transformers.Qwen3Model
    return kind(config).eval()


def qwen_vl(width: int = 8) -> Any:
    """Return a model of text and images of Qwen 2.5."""
    text = {
        "vocab_size": 20, "hidden_size": width, "intermediate_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": width}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
