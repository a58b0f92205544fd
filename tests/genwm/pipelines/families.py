"""Every family of video pipelines of diffusers, small: random weights, and the arguments of one short run.

Denoiser, autoencoder and scheduler are the family's own classes, built from configuration. Where a pipeline takes
embedded prompts it gets random ones and no text encoder; what comes before the denoiser does not touch the decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from tests.genwm.pipelines import folders
from tests.genwm.pipelines.autoencoders import autoencoder

#: A pipeline and the arguments of its call.
Run = tuple[Any, dict[str, Any]]

SIDE = 256
_WIDTH = 16  # of embedded prompts
_UNET = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 2, "cross_attention_dim": _WIDTH,
         "attention_head_dim": 2, "sample_size": 32}  # fmt: skip
_BLOCKS_3D = {"down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
              "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D")}
_WAN = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": _WIDTH,
        "freq_dim": 16, "ffn_dim": 16, "num_layers": 1, "rope_max_seq_len": 32}  # fmt: skip
_SIZE = {"height": SIDE, "width": SIDE, "num_inference_steps": 2}


def _embeds(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def _prompt(*, mask: bool = False, width: int = _WIDTH, length: int = 4) -> dict[str, torch.Tensor]:
    """Embedded prompts, with and without words."""
    found = {"prompt_embeds": _embeds(1, length, width), "negative_prompt_embeds": -_embeds(1, length, width)}
    masks = {f"{name}prompt_attention_mask": torch.ones(1, length, dtype=torch.long) for name in ("", "negative_")}
    return found | (masks if mask else {})


def _picture() -> Any:
    from PIL import Image

    from tests.clips import scene

    return Image.fromarray(scene(SIDE, SIDE, 1)[0])


def _vision() -> tuple[Any, Any]:
    """A picture encoder and what prepares pictures for it."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=224,
        patch_size=112, projection_dim=_WIDTH))
    return model.eval(), CLIPImageProcessor()


def _flow(**options: Any) -> Any:
    import diffusers

    return diffusers.FlowMatchEulerDiscreteScheduler(**options)


def _image_vae() -> Any:
    return autoencoder("AutoencoderKL")


def _unwatched() -> Any:
    """Stands in for the safety checker of Cosmos, which is a package and weights of its own."""

    class Checker:
        def to(self, *_: Any) -> Checker:
            return self

        def check_text_safety(self, text: str) -> bool:
            return True

        def check_video_safety(self, video: Any) -> Any:
            return video

    return Checker()


# --- one builder for each family


def allegro() -> Run:
    import diffusers

    vae: Any = autoencoder("AutoencoderKLAllegro")
    vae.kernel, vae.stride = (8, 160, 160), (4, 96, 96)
    vae.tile_overlap_h = vae.tile_overlap_w = 64
    denoiser = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, num_layers=1, cross_attention_dim=48, sample_height=32,
        sample_width=32, sample_frames=2, caption_channels=_WIDTH)
    pipe = diffusers.AllegroPipeline(None, None, vae, denoiser, diffusers.EulerAncestralDiscreteScheduler())
    return pipe, {**_prompt(mask=True), **_SIZE, "num_frames": 8, "negative_prompt": None}


def animatediff() -> Run:
    return folders.animatediff(), {**_prompt(), **_SIZE, "num_frames": 8}


def animatediff_pag() -> Run:
    import diffusers

    parts = folders.animatediff().components
    pipe = diffusers.AnimateDiffPAGPipeline(**{**parts, "pag_applied_layers": "mid_block.*attn1"})
    return pipe, {**_prompt(), **_SIZE, "num_frames": 8}


def anyflow() -> Run:
    import diffusers

    pipe = diffusers.AnyFlowPipeline(
        None, None, diffusers.AnyFlowTransformer3DModel(**_WAN), autoencoder("AutoencoderKLWan"),
        diffusers.FlowMapEulerDiscreteScheduler())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9}


def chronoedit() -> Run:
    import diffusers

    vision, processor = _vision()
    denoiser = diffusers.ChronoEditTransformer3DModel(**{**_WAN, "in_channels": 12, "image_dim": 16,
                                                         "added_kv_proj_dim": 24})
    pipe = diffusers.ChronoEditPipeline(None, None, vision, processor, denoiser, autoencoder("AutoencoderKLWan"),
                                        _flow())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9, "image": _picture()}


def cogvideox() -> Run:
    return folders.cogvideox(), {**_prompt(), **_SIZE, "num_frames": 9}


def consisid() -> Run:
    import diffusers

    denoiser = diffusers.ConsisIDTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=2,
        text_embed_dim=_WIDTH, num_layers=1, sample_width=32, sample_height=32, sample_frames=9, max_text_seq_length=4,
        use_rotary_positional_embeddings=True, cross_attn_interval=1)
    pipe = diffusers.ConsisIDPipeline(None, None, autoencoder("AutoencoderKLCogVideoX"), denoiser,
                                      diffusers.CogVideoXDDIMScheduler())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9, "image": _picture(), "max_sequence_length": 4}


def cosmos() -> Run:
    import diffusers

    denoiser = diffusers.CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, mlp_ratio=2,
        text_embed_dim=_WIDTH, adaln_lora_dim=4, max_size=(16, 64, 64))
    pipe = diffusers.CosmosTextToWorldPipeline(
        None, None, denoiser, autoencoder("AutoencoderKLCosmos"), diffusers.EDMEulerScheduler(), _unwatched())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9}


def cosmos2() -> Run:
    import diffusers

    denoiser = diffusers.CosmosTransformer3DModel(
        in_channels=5, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, mlp_ratio=2,
        text_embed_dim=_WIDTH, adaln_lora_dim=4, max_size=(16, 64, 64))
    pipe = diffusers.Cosmos2VideoToWorldPipeline(
        None, None, denoiser, autoencoder("AutoencoderKLWan"), _flow(use_karras_sigmas=True), _unwatched())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9, "image": _picture()}


def i2vgen_xl() -> Run:
    import diffusers

    vision, processor = _vision()
    unet = diffusers.I2VGenXLUNet(**{**_UNET, "norm_num_groups": 2, "attention_head_dim": 4}, **_BLOCKS_3D)
    text = folders.animatediff()
    pipe = diffusers.I2VGenXLPipeline(_image_vae(), text.text_encoder, text.tokenizer, vision, processor, unet,
                                      diffusers.DDIMScheduler())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 4, "image": _picture()}


def pia() -> Run:
    import diffusers

    source = folders.animatediff()
    unet = diffusers.UNet2DConditionModel(
        **_UNET, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    motion = diffusers.MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2,
        motion_max_seq_length=64, conv_in_channels=9)
    pipe = diffusers.PIAPipeline(_image_vae(), source.text_encoder, source.tokenizer, unet, diffusers.DDIMScheduler(),
                                 motion)
    return pipe, {**_prompt(), **_SIZE, "num_frames": 8, "image": _picture()}


def text_to_video() -> Run:
    import diffusers

    source = folders.animatediff()
    unet = diffusers.UNet3DConditionModel(**{**_UNET, "attention_head_dim": 4}, **_BLOCKS_3D)
    pipe = diffusers.TextToVideoSDPipeline(_image_vae(), source.text_encoder, source.tokenizer, unet,
                                           diffusers.DDIMScheduler())
    return pipe, {**_prompt(), **_SIZE, "num_frames": 8}


def text_to_video_zero() -> Run:
    import diffusers

    source = folders.stable_diffusion()
    pipe = diffusers.TextToVideoZeroPipeline(
        _image_vae(), source.text_encoder, source.tokenizer, source.unet, diffusers.DDIMScheduler(), None, None,
        requires_safety_checker=False)
    return pipe, {"prompt": "a red car", **_SIZE, "num_inference_steps": 4, "video_length": 4, "t0": 1, "t1": 2}


def easyanimate() -> Run:
    import diffusers

    denoiser = diffusers.EasyAnimateTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=1, mmdit_layers=1,
        time_embed_dim=2, text_embed_dim=_WIDTH, patch_size=2, sample_width=16, sample_height=16)
    pipe = diffusers.EasyAnimatePipeline(autoencoder("AutoencoderKLMagvit"), None, None, denoiser, _flow())
    return pipe, {**_prompt(mask=True), **_SIZE, "num_frames": 9}


def helios() -> Run:
    import diffusers

    denoiser = diffusers.HeliosTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=_WIDTH, freq_dim=16,
        ffn_dim=16, num_layers=1, rope_dim=(4, 4, 4))
    pipe = diffusers.HeliosPipeline(None, None, autoencoder("AutoencoderKLWan"), diffusers.HeliosScheduler(stages=1),
                                    denoiser)
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9, "num_latent_frames_per_chunk": 3}


def hunyuan_video() -> Run:
    import diffusers

    denoiser = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=1, text_embed_dim=_WIDTH, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4))
    pipe = diffusers.HunyuanVideoPipeline(None, None, denoiser, autoencoder("AutoencoderKLHunyuanVideo"), _flow(),
                                          None, None)
    words = {"prompt_embeds": _embeds(1, 4, _WIDTH), "pooled_prompt_embeds": _embeds(1, 8),
             "prompt_attention_mask": torch.ones(1, 4, dtype=torch.long)}
    return pipe, {**words, **_SIZE, "num_frames": 5}


def hunyuan_video_15() -> Run:
    import diffusers

    denoiser = diffusers.HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_refiner_layers=1,
        text_embed_dim=_WIDTH, text_embed_2_dim=_WIDTH, image_embed_dim=_WIDTH, rope_axes_dim=(2, 4, 4),
        task_type="t2v", target_size=SIDE)
    pipe = diffusers.HunyuanVideo15Pipeline(
        None, None, denoiser, autoencoder("AutoencoderKLHunyuanVideo15"), _flow(), None, None,
        diffusers.ClassifierFreeGuidance(guidance_scale=1.0))
    words: dict[str, torch.Tensor] = {}
    for sign in ("", "negative_"):
        for number in ("", "_2"):
            words[f"{sign}prompt_embeds{number}"] = _embeds(1, 4, _WIDTH)
            words[f"{sign}prompt_embeds_mask{number}"] = torch.ones(1, 4, dtype=torch.long)
    return pipe, {**words, **_SIZE, "num_frames": 5}


def kandinsky5() -> Run:
    import diffusers

    denoiser = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=_WIDTH, in_text_dim2=8, time_dim=16, model_dim=24, ff_dim=16,
        num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 4, 4))
    pipe = diffusers.Kandinsky5T2VPipeline(denoiser, autoencoder("AutoencoderKLHunyuanVideo"), None, None, None, None,
                                           _flow())
    ends = torch.tensor([0, 4], dtype=torch.int32)
    words = {"prompt_embeds_qwen": _embeds(1, 4, _WIDTH), "prompt_embeds_clip": _embeds(1, 8),
             "prompt_cu_seqlens": ends}
    words |= {f"negative_{name}": value for name, value in words.items()}
    return pipe, {**words, **_SIZE, "num_frames": 5}


def kandinsky6() -> Run:
    import diffusers

    denoiser = diffusers.Kandinsky6Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=_WIDTH, in_text_dim2=8, time_dim=16, model_dim=24, ff_dim=16,
        num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 4, 4), visual_cond=False)
    pipe = diffusers.Kandinsky6TI2VAPipeline(denoiser, autoencoder("AutoencoderKLHunyuanVideo"), None, None, None, None,
                                             _flow(), None, None)
    words = {**_prompt(), "pooled_prompt_embeds": _embeds(1, 8), "negative_pooled_prompt_embeds": _embeds(1, 8)}
    return pipe, {**words, **_SIZE, "num_frames": 5, "sample_audio": False}


def latte() -> Run:
    import diffusers

    denoiser = diffusers.LatteTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=16, sample_size=32, patch_size=2, caption_channels=_WIDTH, video_length=4,
        norm_type="ada_norm_single", num_embeds_ada_norm=1000, attention_bias=True, activation_fn="gelu-approximate",
        norm_elementwise_affine=False)
    pipe = diffusers.LattePipeline(None, None, _image_vae(), denoiser, diffusers.DDIMScheduler())
    return pipe, {**_prompt(), **_SIZE, "video_length": 4, "negative_prompt": None, "clean_caption": False}


def ltx() -> Run:
    return folders.ltx(), {**_prompt(mask=True), **_SIZE, "num_frames": 9}


def ltx2() -> Run:
    import diffusers
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    sound = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
        mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8)
    denoiser = diffusers.LTX2VideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=1, caption_channels=_WIDTH, rope_double_precision=False)
    connectors = LTX2TextConnectors(
        caption_channels=_WIDTH, text_proj_in_factor=1, video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8, video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2, audio_connector_attention_head_dim=8, audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None, connector_rope_base_seq_len=32, rope_theta=10000.0,
        rope_double_precision=False, causal_temporal_positioning=False)
    voice = LTX2Vocoder(in_channels=16, hidden_channels=16, out_channels=2, upsample_kernel_sizes=[4, 4],
                        upsample_factors=[2, 2], resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]],
                        leaky_relu_negative_slope=0.1, output_sampling_rate=16000)
    pipe = diffusers.LTX2Pipeline(_flow(), autoencoder("AutoencoderKLLTX2Video"), sound, None, None, connectors,
                                  denoiser, voice)
    return pipe, {**_prompt(mask=True), **_SIZE, "num_frames": 9, "guidance_scale": 1.0, "audio_guidance_scale": 1.0,
                  "modality_scale": 1.0, "audio_modality_scale": 1.0, "stg_scale": 0.0, "audio_stg_scale": 0.0}


def lucy() -> Run:
    import diffusers

    denoiser = diffusers.WanTransformer3DModel(**{**_WAN, "in_channels": 8})
    pipe = diffusers.LucyEditPipeline(None, None, autoencoder("AutoencoderKLWan"), _flow(shift=3.0), denoiser)
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9, "video": [_picture()] * 9}


def mochi() -> Run:
    import diffusers

    denoiser = diffusers.MochiTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, pooled_projection_dim=16, in_channels=4,
        text_embed_dim=_WIDTH, time_embed_dim=4, max_sequence_length=4)
    pipe = diffusers.MochiPipeline(_flow(), autoencoder("AutoencoderKLMochi"), None, None, denoiser)
    words = _prompt(mask=True)
    words |= {name: value.bool() for name, value in words.items() if name.endswith("mask")}
    return pipe, {**words, **_SIZE, "num_frames": 7, "max_sequence_length": 4}


def motif_video() -> Run:
    import diffusers

    denoiser = diffusers.MotifVideoTransformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1, num_single_layers=1,
        text_embed_dim=_WIDTH, rope_axes_dim=(4, 4, 4))
    pipe = diffusers.MotifVideoPipeline(_flow(), autoencoder("AutoencoderKLWan"), None, None, denoiser,
                                        diffusers.ClassifierFreeGuidance(guidance_scale=2.0))
    return pipe, {**_prompt(mask=True), **_SIZE, "num_frames": 9}


def sana_video() -> Run:
    import diffusers

    denoiser = diffusers.SanaVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=_WIDTH)
    pipe = diffusers.SanaVideoPipeline(None, None, autoencoder("AutoencoderKLWan"), denoiser,
                                       diffusers.DPMSolverMultistepScheduler())
    return pipe, {**_prompt(mask=True), **_SIZE, "frames": 9, "negative_prompt": None, "use_resolution_binning": False}


def skyreels_v2() -> Run:
    import diffusers

    pipe = diffusers.SkyReelsV2Pipeline(None, None, diffusers.SkyReelsV2Transformer3DModel(**_WAN),
                                        autoencoder("AutoencoderKLWan"), diffusers.UniPCMultistepScheduler(
                                            prediction_type="flow_prediction", use_flow_sigmas=True))
    return pipe, {**_prompt(), **_SIZE, "num_frames": 9}


def stable_video_diffusion() -> Run:
    import diffusers

    vision, processor = _vision()
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32), down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), layers_per_block=1,
        num_attention_heads=(2, 2), cross_attention_dim=_WIDTH, projection_class_embeddings_input_dim=48,
        addition_time_embed_dim=16, num_frames=4, sample_size=32)
    pipe = diffusers.StableVideoDiffusionPipeline(
        autoencoder("AutoencoderKLTemporalDecoder"), vision, unet, diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0), processor)
    return pipe, {**_SIZE, "num_frames": 4, "image": _picture(), "decode_chunk_size": 2}


def wan() -> Run:
    return folders.wan(), {**_prompt(), **_SIZE, "num_frames": 9}


#: By the name of the pipeline's class.
FAMILIES: dict[str, Callable[[], Run]] = {
    "AllegroPipeline": allegro,
    "AnimateDiffPAGPipeline": animatediff_pag,
    "AnimateDiffPipeline": animatediff,
    "AnyFlowPipeline": anyflow,
    "ChronoEditPipeline": chronoedit,
    "CogVideoXPipeline": cogvideox,
    "ConsisIDPipeline": consisid,
    "Cosmos2VideoToWorldPipeline": cosmos2,
    "CosmosTextToWorldPipeline": cosmos,
    "EasyAnimatePipeline": easyanimate,
    "HeliosPipeline": helios,
    "HunyuanVideo15Pipeline": hunyuan_video_15,
    "HunyuanVideoPipeline": hunyuan_video,
    "I2VGenXLPipeline": i2vgen_xl,
    "Kandinsky5T2VPipeline": kandinsky5,
    "Kandinsky6TI2VAPipeline": kandinsky6,
    "LTX2Pipeline": ltx2,
    "LTXPipeline": ltx,
    "LattePipeline": latte,
    "LucyEditPipeline": lucy,
    "MochiPipeline": mochi,
    "MotifVideoPipeline": motif_video,
    "PIAPipeline": pia,
    "SanaVideoPipeline": sana_video,
    "SkyReelsV2Pipeline": skyreels_v2,
    "StableVideoDiffusionPipeline": stable_video_diffusion,
    "TextToVideoSDPipeline": text_to_video,
    "TextToVideoZeroPipeline": text_to_video_zero,
    "WanPipeline": wan,
}
#: diffusers shows these only where OpenCV is installed.
NEED_OPENCV = {"ConsisIDPipeline"}


def shown() -> dict[str, Callable[[], Run]]:
    """The families that the installed diffusers shows here."""
    if find_spec("cv2") is not None:
        return FAMILIES
    return {name: build for name, build in FAMILIES.items() if name not in NEED_OPENCV}



def build(name: str) -> Run:
    """The pipeline ``name`` with the same weights each time, quiet, and the arguments of its run."""
    torch.manual_seed(0)
    pipe, arguments = FAMILIES[name]()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe, {**arguments, "generator": torch.Generator().manual_seed(1), "output_type": "pt"}
