"""The text encoder: words of the captions, and two layers that learn what a caption says of a scene.

It is trained on captions alone, to tell from every one of its outputs what is in the scene, and is then kept as it is:
so the denoiser finds the whole meaning wherever it looks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from genwm.tiny import training
from genwm.tiny.data import HELD_OUT_FROM, attributes, example
from genwm.tiny.scenes import COLOURS, DIRECTIONS, KINDS, WEATHERS, vocabulary

WIDTH = 128
LONGEST = 128  # tokens, as LTXPipeline pads to
SPECIAL = ("<pad>", "</s>", "<unk>")
CLASSES = {"weather": len(WEATHERS), "layout": 2} | {
    f"{name}{place}": count + 1
    for place in range(2)
    for name, count in (("kind", len(KINDS)), ("colour", len(COLOURS)), ("direction", len(DIRECTIONS)))
}
LEARNING_RATE = 2e-3
#: What people also write, and the word of the captions that it stands for.
ALIASES = {
    "crimson": "red", "scarlet": "red", "navy": "blue", "violet": "purple", "automobile": "car", "taxi": "car",
    "coach": "bus", "boy": "man", "girl": "woman", "guy": "man", "lady": "woman", "human": "person",
    "walker": "pedestrian",
    "football": "ball", "cycle": "bike", "biker": "cyclist", "nighttime": "night", "midnight": "night",
    "raining": "rain", "snowing": "snow", "sunshine": "sun", "gray": "grey", "leftwards": "left", "rightwards": "right",
    "leftward": "left", "rightward": "right", "runs": "walks", "running": "walking", "travels": "moves",
    "travelling": "moving", "traveling": "moving", "turns": "moves", "turning": "moving", "cycles": "rides",
    "bounces": "rolls", "bouncing": "rolling", "approaching": "closer", "lorry": "bus", "truck": "bus",
    # No caption has several of a kind: one is drawn.
    "cars": "car", "automobiles": "car", "taxis": "car", "buses": "bus", "coaches": "bus", "lorries": "bus",
    "trucks": "bus", "balls": "ball", "bicycles": "bicycle", "bikes": "bike", "cyclists": "cyclist", "men": "man",
    "women": "woman", "boys": "man", "girls": "woman", "people": "person", "pedestrians": "pedestrian",
    "drive": "drives", "walk": "walks", "ride": "rides", "roll": "rolls", "move": "moves", "go": "goes",
    "stand": "stands",
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Lower-case words and commas; other punctuation is dropped, aliases are replaced, the rest is ``<unk>``."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [*SPECIAL, *(word for word in vocabulary() if word not in SPECIAL)]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    signs = normalizers.Replace(Regex(r"[^\p{L}\p{N},]+"), " ")
    steps: list[Any] = [normalizers.NFKC(), normalizers.Lowercase(), signs]
    steps += [normalizers.Replace(Regex(rf"\b{word}\b"), meant) for word, meant in ALIASES.items()]
    raw.normalizer = normalizers.Sequence(steps)
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
                                   model_max_length=LONGEST)


def build(words: int, seed: int = 0, *, width: int = WIDTH, layers: int = 2) -> T5EncoderModel:
    """An untrained encoder for a tokenizer of so many ``words``."""
    torch.manual_seed(seed)
    config = T5Config(vocab_size=words, d_model=width, d_kv=32, d_ff=2 * width, num_layers=layers,
                      num_heads=width // 32,
                      feed_forward_proj="gated-gelu", dropout_rate=0.0, relative_attention_num_buckets=32,
                      pad_token_id=0, eos_token_id=1, is_encoder_decoder=False, use_cache=False)
    return T5EncoderModel(config)


def train(work: Path, *, steps: int, seed: int = 2, minutes: float = math.inf, size: int = 64) -> T5EncoderModel:
    """Trains on captions of the training clips, or goes on with what is in ``work``."""
    where = training.device()
    words = tokenizer()
    encoder = build(len(words)).to(where).train()
    heads = nn.ModuleDict({name: nn.Linear(WIDTH, count) for name, count in CLASSES.items()}).to(where)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def step(number: int, progress: float) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * training.rate(number, progress)
        rng = np.random.default_rng([seed, number])
        made = [example(int(one)) for one in rng.integers(HELD_OUT_FROM, size=size)]
        texts = [_with_gaps(one.caption, rng) for one in made]
        # LTXPipeline lets the encoder see the padding, LTXConditionPipeline does not; here both happen.
        out, mask = outputs(encoder, words, texts, masked=bool(number % 2), length=LONGEST if number % 4 == 0 else None)
        loss = torch.zeros((), device=where)
        right = []
        for name, head in heads.items():
            target = torch.tensor([labels(one.scene)[name] for one in made], device=where)
            scores = head(out)[mask]
            wanted = target[:, None].expand(mask.shape)[mask]
            loss = loss + functional.cross_entropy(scores, wanted) / len(heads)
            right.append((scores.argmax(-1) == wanted).float().mean())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return {"loss": float(loss.detach()), "right": float(torch.stack(right).mean())}

    training.run(work / "text.pt", {"model": encoder, "heads": heads, "optimiser": optimiser}, steps, step,
                 minutes=minutes)
    return encoder.eval()


def labels(scene: Any) -> dict[str, int]:
    """The classes of `CLASSES` for a scene."""
    return attributes(scene) | {"layout": int(scene.layout == "along")}


def outputs(encoder: T5EncoderModel, words: PreTrainedTokenizerFast, texts: list[str], *, masked: bool = True,
            length: int | None = None) -> tuple[Tensor, Tensor]:
    """Hidden states ``(B, L, WIDTH)`` and the mask of what is no padding ``(B, L)``; padded to the longest text, or to
    ``length`` tokens. ``masked``: the encoder ignores the padding."""
    where = encoder.device
    found = words(texts, padding="longest" if length is None else "max_length", max_length=length or LONGEST,
                  truncation=True, return_tensors="pt").to(where)
    mask = found.attention_mask.bool()
    hidden = encoder(found.input_ids, attention_mask=mask if masked else None).last_hidden_state
    return hidden, mask


def _with_gaps(text: str, rng: np.random.Generator) -> str:
    """Now and then a word that is not known before or after the caption, as people write."""
    if rng.random() < 0.15:
        return f"{text} unheard" if rng.random() < 0.5 else f"unheard {text}"
    return text
