"""Small video pipelines with random weights, saved in diffusers' folder format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "car", "turns", "left")
_LEVELS = 4
_WIDTHS = (8,) * _LEVELS


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<unk>", eos_token="</s>", unk_token="<unk>",
        model_max_length=16,
    )


def _text_encoder(kind: str = "T5") -> Any:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def ltx() -> Any:
    """LTXPipeline: an autoencoder that is decoded as a whole, or in tiles in time."""
    import diffusers

    halves, ones = (True, True, False, False), (1,) * (_LEVELS + 1)
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=_WIDTHS, decoder_block_out_channels=_WIDTHS, layers_per_block=ones,
        decoder_layers_per_block=ones, spatio_temporal_scaling=halves, decoder_spatio_temporal_scaling=halves,
        decoder_inject_noise=(False,) * (_LEVELS + 1), upsample_residual=(False,) * _LEVELS,
        upsample_factor=(1,) * _LEVELS, patch_size=4, patch_size_t=1,
    )
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        num_layers=1, caption_channels=16,
    )
    return diffusers.LTXPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), vae, _text_encoder(), _tokenizer(),
                                 transformer)


def wan() -> Any:
    """WanPipeline: a causal autoencoder, decoded a latent frame at a time."""
    import diffusers

    vae = diffusers.AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    transformer = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=16, num_layers=1,
        rope_max_seq_len=32,
    )
    return diffusers.WanPipeline(_tokenizer(), _text_encoder("UMT5"), vae,
                                 diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), transformer)


def cogvideox() -> Any:
    """CogVideoXPipeline: a causal autoencoder, decoded a few latent frames at a time."""
    import diffusers

    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=_WIDTHS, layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=("CogVideoXDownBlock3D",) * _LEVELS, up_block_types=("CogVideoXUpBlock3D",) * _LEVELS,
    )
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=2,
        text_embed_dim=16, num_layers=1, sample_width=32, sample_height=32, sample_frames=9,
        use_rotary_positional_embeddings=True,
    )
    return diffusers.CogVideoXPipeline(_tokenizer(), _text_encoder(), vae, transformer,
                                       diffusers.CogVideoXDDIMScheduler())


def animatediff() -> Any:
    """AnimateDiffPipeline: an autoencoder of still images, which the pipeline calls for a few frames at a time."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    vae = diffusers.AutoencoderKL(
        block_out_channels=_WIDTHS, down_block_types=("DownEncoderBlock2D",) * _LEVELS,
        up_block_types=("UpDecoderBlock2D",) * _LEVELS, norm_num_groups=4, latent_channels=4, sample_size=64,
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 8), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, norm_num_groups=2, attention_head_dim=2,
    )
    motion = diffusers.MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2,
        motion_max_seq_length=64)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=2, eos_token_id=1)).eval()
    return diffusers.AnimateDiffPipeline(
        vae=vae, text_encoder=text, tokenizer=_tokenizer(), unet=unet, motion_adapter=motion,
        scheduler=diffusers.DDIMScheduler(),
    )


def stable_diffusion() -> Any:
    """StableDiffusionPipeline, which makes no video."""
    import diffusers

    source = animatediff()
    unet = diffusers.UNet2DConditionModel.from_config(_plain_unet())
    return diffusers.StableDiffusionPipeline(
        vae=source.vae, text_encoder=source.text_encoder, tokenizer=source.tokenizer, unet=unet,
        scheduler=source.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )


def _plain_unet() -> dict[str, Any]:
    return {"block_out_channels": (8, 8), "layers_per_block": 1, "sample_size": 32, "cross_attention_dim": 16,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 2, "attention_head_dim": 2,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}  # fmt: skip


def save(make: Callable[[], Any], folder: Path) -> Path:
    """Builds a pipeline from fixed random weights and saves it to ``folder``."""
    torch.manual_seed(0)
    make().save_pretrained(str(folder))
    return folder
