"""Every autoencoder of diffusers that decodes pictures, small: random weights, a configuration of a few channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Tiny:
    """How one class is built and called.

    Attributes:
        config: arguments of the class.
        latents: shape of its latents, a batch of two (for video) or of two videos of three frames (for images).
        options: further arguments of ``decode``.
        attributes: what is set on the model, for sizes that the class has fixed.
    """

    config: dict[str, Any]
    latents: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def _levels(kind: str, count: int) -> tuple[str, ...]:
    return (kind,) * count


_IMAGE = {
    "block_out_channels": (8, 8, 8, 8), "down_block_types": _levels("DownEncoderBlock2D", 4),
    "up_block_types": _levels("UpDecoderBlock2D", 4), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 64,
}
_IMAGE_LATENTS = (6, 4, 6, 8)

TINY: dict[str, Tiny] = {
    "AsymmetricAutoencoderKL": Tiny(
        {"down_block_types": _levels("DownEncoderBlock2D", 4), "down_block_out_channels": (8, 8, 8, 8),
         "up_block_types": _levels("UpDecoderBlock2D", 4), "up_block_out_channels": (8, 8, 8, 8),
         "norm_num_groups": 4, "sample_size": 64}, _IMAGE_LATENTS),
    "AutoencoderDC": Tiny(
        {"latent_channels": 4, "attention_head_dim": 2, "encoder_block_out_channels": (8, 8, 8, 8),
         "decoder_block_out_channels": (8, 8, 8, 8), "encoder_layers_per_block": (1, 1, 1, 1),
         "decoder_layers_per_block": (1, 1, 1, 1), "encoder_qkv_multiscales": ((), (), (), (5,)),
         "decoder_qkv_multiscales": ((), (), (), (5,))}, _IMAGE_LATENTS),
    "AutoencoderKL": Tiny(_IMAGE, _IMAGE_LATENTS),
    "AutoencoderKLAllegro": Tiny(
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
         "sample_size": 64}, (2, 4, 3, 6, 8),
        attributes={"use_tiling": True, "kernel": (8, 32, 32), "stride": (4, 16, 16), "tile_overlap_t": 4,
                    "tile_overlap_h": 16, "tile_overlap_w": 16}),
    "AutoencoderKLCogVideoX": Tiny(
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
         "sample_height": 64, "sample_width": 96}, (2, 4, 2, 6, 8)),
    "AutoencoderKLCosmos": Tiny(
        {"latent_channels": 4, "encoder_block_out_channels": (8, 8, 8, 8), "decode_block_out_channels": (8, 8, 8, 8),
         "attention_resolutions": (8,), "resolution": 64, "num_layers": 1, "latents_mean": None, "latents_std": None},
        (2, 4, 2, 6, 8)),
    "AutoencoderKLFlux2": Tiny(
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4,
         "sample_size": 64}, _IMAGE_LATENTS),
    "AutoencoderKLHunyuanImage": Tiny(
        {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 32, 32, 32),
         "layers_per_block": 1, "spatial_compression_ratio": 8, "sample_size": 64}, _IMAGE_LATENTS),
    "AutoencoderKLHunyuanImageRefiner": Tiny(
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1,
         "spatial_compression_ratio": 8}, (2, 4, 2, 6, 8)),
    "AutoencoderKLHunyuanVideo": Tiny(
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
        (2, 4, 2, 6, 8)),
    "AutoencoderKLHunyuanVideo15": Tiny(
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8, 8), "layers_per_block": 1,
         "spatial_compression_ratio": 16}, (2, 4, 2, 3, 4)),
    "AutoencoderKLKVAE": Tiny(
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 1, 1, 1),
         "sample_size": 64}, (6, 4, 6, 8)),
    "AutoencoderKLKVAEVideo": Tiny(
        {"ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1, "z_channels": 4}, (2, 4, 2, 6, 8)),
    "AutoencoderKLLTX2Video": Tiny(
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 16, 32),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1),
         "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
         "decoder_spatial_padding_mode": "zeros"}, (2, 8, 2, 3, 4)),  # 'reflect' fails on tiles of one column
    "AutoencoderKLLTXVideo": Tiny(
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1)}, (2, 8, 2, 3, 4)),
    "AutoencoderKLMagvit": Tiny(
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4},
        (2, 4, 2, 6, 8)),
    "AutoencoderKLMiniMaxH3": Tiny(
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4,
         "decoder_num_layers": 1, "decoder_num_attention_heads": 2, "decoder_attention_head_dim": 32,
         "latents_mean": (0.0,) * 4, "latents_std": (1.0,) * 4}, (2, 4, 7, 4, 6)),
    "AutoencoderKLMochi": Tiny(
        {"latent_channels": 4, "encoder_block_out_channels": (32,) * 4, "decoder_block_out_channels": (32,) * 4,
         "layers_per_block": (1, 1, 1, 1, 1), "latents_mean": None, "latents_std": None}, (2, 4, 2, 6, 8)),
    "AutoencoderKLQwenImage": Tiny(
        {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "latents_mean": [0.0] * 4,
         "latents_std": [1.0] * 4}, (2, 4, 1, 6, 8)),
    "AutoencoderKLQwenImage21": Tiny(
        {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1, 1], "num_res_blocks": 1,
         "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "in_channels": 3, "out_channels": 3}, (2, 4, 1, 4, 6)),
    "AutoencoderKLTemporalDecoder": Tiny(
        {"block_out_channels": (32, 32, 32, 32), "down_block_types": _levels("DownEncoderBlock2D", 4),
         "latent_channels": 4, "sample_size": 64}, _IMAGE_LATENTS, {"num_frames": 3}),
    "AutoencoderKLWan": Tiny(
        {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "latents_mean": [0.0] * 4,
         "latents_std": [1.0] * 4}, (2, 4, 2, 6, 8)),
    "AutoencoderRAE": Tiny(
        {"encoder_type": "mae", "encoder_hidden_size": 64, "encoder_patch_size": 8, "encoder_num_hidden_layers": 1,
         "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
         "decoder_intermediate_size": 16, "patch_size": 8, "encoder_input_size": 64, "image_size": 64},
        (6, 64, 8, 8)),
    "AutoencoderTiny": Tiny(
        {"encoder_block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
         "num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (1, 1, 1, 1)}, _IMAGE_LATENTS),
    "AutoencoderVidTok": Tiny({"ch": 8, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}, (2, 4, 2, 6, 8)),
    "ConsistencyDecoderVAE": Tiny(
        {"encoder_block_out_channels": (8, 8, 8, 8), "encoder_norm_num_groups": 4, "decoder_block_out_channels": (8, 8),
         "decoder_down_block_types": _levels("ResnetDownsampleBlock2D", 2), "decoder_layers_per_block": 1,
         "decoder_up_block_types": _levels("ResnetUpsampleBlock2D", 2), "sample_size": 64,
         "decoder_norm_num_groups": 4}, (6, 4, 6, 8)),
    "Kandinsky6SRVAE": Tiny(
        {"latent_channels": 4, "encoder_block_out_channels": (8, 8, 8, 8), "layers_per_block": 1,
         "decoder_block_out_channels": (8, 8, 8, 8)}, (2, 4, 2, 6, 8)),
    "LTX2VideoDiffusionDecoderModel": Tiny(
        {"latent_channels": 8, "decoder_head_dim": 8, "decoder_stage_channels": (64, 32, 16, 16, 8),
         "decoder_stage_depths": (1, 1, 1, 1, 1), "decoder_t_emb_dim": 16,
         "decoder_stage_kernels": ((1, 3, 3),) * 4, "decoder_stage5_kernel": (1, 3, 3)}, (2, 8, 1, 3, 3)),
    "VQModel": Tiny({key: value for key, value in _IMAGE.items() if key != "latent_channels"} | {"latent_channels": 4},
                    _IMAGE_LATENTS),
}


def autoencoder(name: str, **config: Any) -> torch.nn.Module:
    """The autoencoder ``name``, float32, with weights that are the same each time; ``config`` changes its arguments."""
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, name)(**{**TINY[name].config, **config})
    for attribute, value in TINY[name].attributes.items():
        setattr(model, attribute, value)
    return model.eval().requires_grad_(False)


def latents(name: str) -> torch.Tensor:
    """Latents for :func:`autoencoder`, the same each time."""
    return torch.randn(TINY[name].latents, generator=torch.Generator().manual_seed(1))
