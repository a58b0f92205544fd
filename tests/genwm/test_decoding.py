"""The decode hook on whatever path a decoder takes, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm.decoding import mark_decoder, verify_written  # noqa: E402
from genwm.errors import GenwmError, InputError, NotVerifiedError  # noqa: E402
from genwm.marking import Mark  # noqa: E402
from genwm.video import write_video  # noqa: E402
from tests.clips import KEY, PAYLOAD, marked, scene  # noqa: E402
from tests.genwm.pipelines import folders  # noqa: E402
from tests.genwm.pipelines.autoencoders import autoencoder, latents  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own plans
torch.set_num_threads(1)

MARK, OTHER = Mark(KEY, PAYLOAD, "strong"), Mark(KEY, PAYLOAD + 1, "strong")


def decode(model: Any, name: str) -> Any:
    with torch.no_grad():
        return model.decode(latents(name)).sample


def hooked(name: str) -> Any:
    """What an autoencoder of that name gives with the hook on, nothing else done to it."""
    model = autoencoder(name)
    with mark_decoder(model, MARK):
        return decode(model, name)


def test_what_is_not_a_number_is_black_and_leaves_its_neighbours_alone() -> None:
    model = autoencoder("AutoencoderKL")
    plain = decode(model, "AutoencoderKL")
    black, broken = plain.clone(), plain.clone()
    black[0, :, 20, 30], broken[0, :, 20, 30] = -1.0, torch.nan
    found = []
    for pictures in (black, broken):
        model.decode = lambda latent, pictures=pictures: (pictures,)
        with mark_decoder(model, MARK):
            found.append(model.decode(None)[0])
    assert (found[0] == found[1]).all()


# --- paths


def _decode_compiled(model: Any) -> Any:
    model.decode = torch.compile(model.decode, backend="eager")
    return model


def _forward_compiled(model: Any) -> Any:
    model.decoder = torch.compile(model.decoder, backend="eager")
    return model


def _wholly_compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def _offloaded(model: Any) -> Any:
    from accelerate import cpu_offload

    return cpu_offload(model, execution_device=torch.device("cpu"))


def _offloaded_as_a_whole(model: Any) -> Any:
    from accelerate import cpu_offload_with_hook

    return cpu_offload_with_hook(model, torch.device("cpu"))[0]


@pytest.mark.parametrize(
    "prepare", [_decode_compiled, _forward_compiled, _wholly_compiled, _offloaded, _offloaded_as_a_whole])
@pytest.mark.parametrize("name", ["AutoencoderKL", "AutoencoderKLWan"])
def test_compiled_and_offloaded_decoders_are_marked_the_same(name: str, prepare: Any) -> None:
    model = prepare(autoencoder(name))
    plain = decode(model, name)
    with mark_decoder(model, MARK):
        found = decode(model, name)
    torch.testing.assert_close(found, hooked(name), rtol=0, atol=2e-5)
    assert not torch.equal(found, plain)
    torch.testing.assert_close(decode(model, name), plain, rtol=0, atol=0)


def test_a_compiled_pipeline_is_marked_through_its_original() -> None:
    pipe = folders.animatediff()
    pipe.vae = torch.compile(pipe.vae, backend="eager")
    with mark_decoder(pipe, MARK) as hook:
        pipe.vae.decode(torch.zeros(2, 4, 6, 8))
    assert hook.frames_marked == 2


def test_the_permanent_form_and_its_end() -> None:
    model: Any = autoencoder("AutoencoderKLWan")
    plain = decode(model, "AutoencoderKLWan")
    hook = mark_decoder(model, MARK)
    assert not torch.equal(decode(model, "AutoencoderKLWan"), plain)
    hook.detach()
    hook.detach()
    assert torch.equal(decode(model, "AutoencoderKLWan"), plain)


def test_the_hook_leaves_when_the_block_fails() -> None:
    model = autoencoder("AutoencoderKLWan")
    with pytest.raises(RuntimeError, match="mine"), mark_decoder(model, MARK):
        raise RuntimeError("mine")
    assert "decode" not in vars(model)


def test_a_hook_that_is_entered_again_marks_again() -> None:
    model: Any = autoencoder("AutoencoderKL")
    hook = mark_decoder(model, (MARK, OTHER), frames_per_item=4)
    first = decode(model, "AutoencoderKL")
    hook.detach()
    plain = decode(model, "AutoencoderKL")
    with hook:
        assert torch.equal(decode(model, "AutoencoderKL"), first)  # from its first item on
    with hook:
        assert torch.equal(decode(model, "AutoencoderKL"), first)
    assert hook.frames_marked == len(first)
    assert torch.equal(decode(model, "AutoencoderKL"), plain)
    with mark_decoder(model, OTHER), pytest.raises(InputError, match="marked already"):
        hook.__enter__()


def test_a_copy_decodes_with_its_own_weights_and_is_marked_as_long_as_the_original() -> None:
    name = "AutoencoderKLWan"
    model: Any = autoencoder(name)
    with mark_decoder(model, MARK) as hook:
        copied = copy.deepcopy(model)
        assert torch.equal(decode(copied, name), decode(model, name))
        with torch.no_grad():
            for weight in copied.parameters():
                weight.mul_(0.9)
        before = hook.frames_marked
        changed = decode(copied, name)
        assert hook.frames_marked > before
        assert not torch.equal(changed, decode(model, name))
        with pytest.raises(InputError, match="marked already"):
            mark_decoder(copied, OTHER)
    assert "decode" not in vars(copied)
    plain = decode(copied, name)
    assert not torch.equal(plain, changed)
    with mark_decoder(copied, MARK):
        assert torch.equal(decode(copied, name), changed)
    assert torch.equal(decode(copied, name), plain)


def test_a_marked_decoder_is_saved_without_its_key_and_not_pickled(tmp_path: Path) -> None:
    model: Any = autoencoder("AutoencoderKLWan")
    plain = decode(model, "AutoencoderKLWan")
    with mark_decoder(model, MARK):
        model.save_pretrained(tmp_path)
        with pytest.raises(InputError, match="detach the hook first"):
            pickle.dumps(model)
    for loaded in (type(model).from_pretrained(tmp_path), pickle.loads(pickle.dumps(model))):
        assert torch.equal(decode(loaded, "AutoencoderKLWan"), plain)


def test_frames_of_image_decoders_are_counted_over_chunks() -> None:
    """Six frames in chunks of four and two: two videos of three frames, one payload each."""
    latent, model = latents("AutoencoderKL"), autoencoder("AutoencoderKL")
    with torch.no_grad():
        with mark_decoder(model, (MARK, OTHER), frames_per_item=3):
            whole = model.decode(latent).sample
        with mark_decoder(model, (MARK, OTHER), frames_per_item=3):
            chunks = torch.cat([model.decode(latent[:4]).sample, model.decode(latent[4:]).sample])
    torch.testing.assert_close(chunks, whole, rtol=0, atol=2e-5)


def test_a_block_in_which_nothing_was_decoded_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model = autoencoder("AutoencoderKL")
    with mark_decoder(model, MARK):
        pass
    assert "nothing was marked: decode of AutoencoderKL was not called" in caplog.text
    caplog.clear()
    with pytest.raises(ZeroDivisionError), mark_decoder(model, MARK):
        raise ZeroDivisionError
    with mark_decoder(model, MARK) as hook:
        hook.detach()
    assert not caplog.text


# --- refusals


class Unknown(torch.nn.Module):
    def decode(self, latent: Any) -> Any:
        return latent


@pytest.mark.parametrize(
    ("target", "marks", "options", "words"),
    [
        (lambda: Unknown(), MARK, {}, "whose pictures genwm knows, got Unknown"),
        (lambda: torch.nn.Linear(2, 2), MARK, {}, "got Linear"),
        (lambda: autoencoder("AutoencoderKL", out_channels=4), MARK, {}, "got AutoencoderKL with 4"),
        (lambda: autoencoder("AutoencoderKL"), (MARK, OTHER), {}, "Expected frames_per_item"),
        (lambda: autoencoder("AutoencoderKL"), MARK, {"frames_per_item": 0}, "at least 1"),
        (lambda: autoencoder("AutoencoderKL"), (), {}, "sequence of Marks, got none;"),
        (lambda: autoencoder("AutoencoderKL"), "mark", {}, "sequence of Marks, got str;"),
        (lambda: autoencoder("AutoencoderKL"), None, {}, "sequence of Marks, got NoneType;"),
        (lambda: MARK, torch.nn.Linear(2, 2), {}, "sequence of Marks, got Linear;"),  # the two exchanged
        (lambda: autoencoder("AutoencoderKL"), [MARK, 7], {}, "sequence of Marks, got Mark and int;"),
        (lambda: autoencoder("AutoencoderKL"), MARK, {"frames_per_item": "x"}, "at least 1, got 'x'"),
        (lambda: None, MARK, {}, "got NoneType"),
    ],
)
def test_what_is_refused(target: Any, marks: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mark_decoder(target(), marks, **options)


def test_a_pipeline_that_blends_tiles_is_refused() -> None:
    import diffusers

    source = folders.ltx()
    pipe = diffusers.LTXI2VLongMultiPromptPipeline(**{
        name: source.components[name] for name in ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")})
    with pytest.raises(InputError, match="decodes whole frames"):
        mark_decoder(pipe, MARK)


def test_a_decoder_is_marked_once() -> None:
    model = autoencoder("AutoencoderKLWan")
    with mark_decoder(model, MARK), pytest.raises(InputError, match="marked already"):
        mark_decoder(model, OTHER)
    mark_decoder(model, OTHER).detach()


def test_the_number_of_marks_is_that_of_the_batch() -> None:
    model = autoencoder("AutoencoderKLWan")
    with mark_decoder(model, (MARK, OTHER, MARK)), pytest.raises(InputError, match="one for each of the 2 decoded"):
        decode(model, "AutoencoderKLWan")


# --- reading back


def test_a_written_clip_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, marked(scene(256, 256, 9), strength="strong"), fps=8, crf=16)
    assert verify_written(path, MARK).payload == PAYLOAD
    with pytest.raises(NotVerifiedError, match=f"Expected payload {OTHER.payload:016x}"):
        verify_written(path, OTHER)
    write_video(path, scene(256, 256, 9), fps=8, crf=16)
    with pytest.raises(NotVerifiedError, match="got none"):
        verify_written(path, MARK)
    with pytest.raises(GenwmError):
        verify_written(tmp_path / "none.mp4", MARK)
