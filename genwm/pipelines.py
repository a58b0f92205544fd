"""Video pipelines of diffusers, by hub id or local folder: the right class for the task, quantised, sparing of memory.

The folder's ``model_index.json`` names a pipeline class. Where that class cannot do the task (an image-to-video model
asked for text alone, a text-to-video model given a picture), its family, the other pipelines of the same package of
diffusers, is searched for one that can and whose components the folder holds. Nothing is listed here by name, so that
a new family needs no change. Only classes of diffusers itself are loaded, never code from the folder.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

from genwm.errors import BudgetError, FetchError, InputError, MissingExtraError, NotFoundError
from genwm.extras import require
from genwm.quantised import Quantize, per_component, quantisation

Task = Literal["text", "image", "video"]
Saver = Literal["tiling", "slicing", "attention-slicing", "offload", "sequential-offload", "group-offload"]
DTYPES = ("auto", "float32", "float16", "bfloat16")

INDEX = "model_index.json"
#: What families call the number of frames.
FRAME_COUNTS = ("num_frames", "video_length", "frames")

_A_VIDEO = re.compile(r"(^|_)video$")
_GIVEN_AN_INPUT = re.compile(r"(Image|Video)(To|2)(Video|World)|(?<!T)[IV]2V")
_NAMED_FOR = {"image": re.compile(r"Image(To|2)Video|I2V"), "video": re.compile(r"Video(To|2)Video|V2V")}
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")
_OFFLOADS: dict[str, str] = {
    "offload": "enable_model_cpu_offload",
    "sequential-offload": "enable_sequential_cpu_offload",
    "group-offload": "enable_group_offload",
}


@dataclass(frozen=True)
class Loaded:
    """A pipeline that is ready to run.

    Attributes:
        pipe: the diffusers pipeline, on its device.
        model: what was asked for, a hub id or a folder.
        revision: the commit that a hub id stood for; None for a folder.
        task: what it was loaded for.
        device: 'cpu', 'cuda', 'mps' and so on.
        dtype: name of the torch dtype of the weights, such as 'bfloat16'.
        quantize: precision of the denoiser's weights, None where they are as in the files.
        savers: memory savers that are on.
    """

    pipe: Any
    model: str
    revision: str | None
    task: Task
    device: str
    dtype: str
    quantize: Quantize | None = None
    savers: tuple[Saver, ...] = ()

    @property
    def name(self) -> str:
        """Name of the pipeline's class."""
        return type(self.pipe).__name__


def load(
    model: str | os.PathLike[str],
    *,
    task: Task = "text",
    device: str = "auto",
    dtype: str = "auto",
    quantize: Quantize | None = None,
    savers: Sequence[Saver] = (),
    revision: str | None = None,
    local_only: bool = False,
) -> Loaded:
    """Loads a video pipeline.

    Args:
        model: hub id ('owner/name') or a folder in diffusers' format.
        task: what the clip is made from: 'text' alone, or with an 'image' or a 'video'.
        device: 'auto' (CUDA, else Apple's, else the CPU) or a torch device.
        dtype: of the weights; 'auto' is bfloat16 on CUDA (float16 where it cannot), float32 elsewhere.
        quantize: loads the weights of the denoiser, by far the largest part, in 8 or 4 bits.
        savers: what trades speed for memory. 'tiling' decodes in tiles, 'slicing' an item at a time;
            'attention-slicing' does attention in steps; one of 'offload' (a model at a time on the GPU),
            'group-offload' (a layer at a time, ahead of its use) and 'sequential-offload' (slowest, least memory).
        revision: branch, tag or commit on the hub.
        local_only: use nothing but folders and what the hub's cache holds.

    Errors: MissingExtraError without diffusers or the quantising package; NotFoundError for an unknown model;
    FetchError where the hub cannot be reached; InputError for what is no video pipeline or cannot do the task, and for
    options that do not go together.
    """
    torch, diffusers = require("torch", "generate"), require("diffusers", "generate")
    require("transformers", "generate")
    place = _device(torch, device)
    _check_options(place, dtype, quantize, savers)
    quantised = None if quantize is None else quantisation(quantize, place)
    name = os.fspath(model)
    folder, commit = _folder(diffusers, name, revision, local_only)
    index = _read_index(folder / INDEX)
    kind = pipeline_class(diffusers, index, task)
    precision = _dtype(torch, dtype, place)
    options: dict[str, Any] = {}
    with quiet(), enough_memory(kind.__name__, place, quantize, savers):
        if quantised is not None:
            options["quantization_config"] = per_component(index, quantised)
        with _broken_folder(folder):
            pipe = kind.from_pretrained(str(folder), dtype=precision, local_files_only=True, **options)
        _check_weights(pipe, folder)
        pipe.set_progress_bar_config(disable=True)
        _spare(pipe, savers, place)
        if not set(savers) & set(_OFFLOADS):
            pipe.to(place)
    return Loaded(pipe, name, commit, task, place, str(precision).removeprefix("torch."), quantize, tuple(savers))


# --- the class for the task


def pipeline_class(diffusers: ModuleType, index: Mapping[str, Any], task: Task) -> Any:
    """The class that does ``task`` with the components that ``index``, a parsed model_index.json, lists.

    InputError where the model makes no video, or neither its class nor another of its family does the task.
    """
    name = str(index.get("_class_name"))
    own = getattr(diffusers, name, None)
    if not (inspect.isclass(own) and issubclass(own, diffusers.DiffusionPipeline)):
        raise InputError(f"Expected a pipeline of the installed diffusers {diffusers.__version__}, got {name}; "
                         "upgrade diffusers or use another model.")
    if not makes_video(own):
        raise InputError(f"Expected a model that makes video, got {name}, which does not; use a video model.")
    if _does(own, task):
        return own
    fitting = [kind for kind in _family(diffusers, own) if _does(kind, task) and _fits(diffusers, kind, index)]
    if not fitting:
        wanted = "text alone" if task == "text" else f"a prompt with --{task}"
        raise InputError(f"Expected a model that makes video from {wanted}, got {name}, whose family has no such "
                         "pipeline for it; use another model or give it other inputs.")
    return min(fitting, key=lambda kind: _preference(kind, own, task))


def makes_video(kind: Any) -> bool:
    """Whether a pipeline class takes a number of frames, or a video."""
    return any(name in FRAME_COUNTS or _A_VIDEO.search(name) for name in parameters_of(kind))


def parameters_of(kind: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline class's call."""
    call = getattr(kind, "__call__", None)  # noqa: B004  # its signature is wanted
    return inspect.signature(call).parameters if callable(call) else {}


def _does(kind: Any, task: Task) -> bool:
    """Whether the call needs nothing but the prompt and the task's input, and takes that."""
    parameters = parameters_of(kind)
    if not makes_video(kind):
        return False
    if task == "text" and ("prompt" not in parameters or _GIVEN_AN_INPUT.search(kind.__name__)):
        return False
    if task != "text" and task not in parameters:
        return False
    if task == "video" and "prompt" not in parameters:  # an upsampler
        return False
    needed = {name for name, item in parameters.items()
              if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD}
    return needed <= {"self", "prompt", task}


def _family(diffusers: ModuleType, own: Any) -> list[Any]:
    """The pipeline classes of the package of diffusers that ``own`` is in."""
    package = sys.modules[own.__module__.rpartition(".")[0]]
    found = []
    for name in dir(package):
        wanted = name.endswith("Pipeline") and "Inpaint" not in name  # inpainting needs a mask
        kind = getattr(package, name, None) if wanted else None
        if inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline):
            found.append(kind)
    return found


def _fits(diffusers: ModuleType, kind: Any, index: Mapping[str, Any]) -> bool:
    """Whether the folder holds what the class's constructor needs, in the classes that it names."""
    hints = get_type_hints(kind.__init__)
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        entry = index.get(name)
        library, class_name = entry if isinstance(entry, list) else (None, None)
        needed = parameter.default is parameter.empty and name not in (*kind._optional_components, "self")
        if class_name is None:
            if needed:
                return False
        elif library == "diffusers" and "scheduler" not in name and name in hints:
            held, wanted = getattr(diffusers, class_name, None), get_args(hints[name]) or (hints[name],)
            classes = tuple(one for one in wanted if inspect.isclass(one) and one is not type(None))
            if held is not None and classes and not issubclass(held, classes):
                return False
    return True


def _preference(kind: Any, own: Any, task: Task) -> tuple[bool, int, int, str]:
    """First what is named for the task, then what has more words in common with the model's class, then plain names."""
    named = task == "text" or _NAMED_FOR[task].search(kind.__name__) is not None
    words = [re.findall(r"[A-Z]+[a-z0-9]*", one.__name__) for one in (kind, own)]
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*words, strict=False)))
    return not named, -common, len(kind.__name__), kind.__name__


# --- where the files are


def _folder(diffusers: ModuleType, model: str, revision: str | None, local_only: bool) -> tuple[Path, str | None]:
    """The folder of a model, fetched from the hub where it is not one, and the commit if it was."""
    if not model:
        raise InputError("Expected a hub id or a folder for the model, got an empty name; give one such as owner/name.")
    path = Path(model).expanduser()
    if path.is_dir():
        if revision is not None:
            raise InputError(f"Expected no revision for the folder {model}, got {revision}; leave it out.")
        if not (path / INDEX).is_file():
            raise InputError(f"Expected a folder in diffusers' format, got {model} without {INDEX}; "
                             "give the folder that save_pretrained wrote.")
        return path, None
    if path.exists():
        raise InputError(f"Expected a hub id or a folder in diffusers' format, got the file {model}; "
                         "convert it to a folder first.")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) or model.startswith((".", "~")):
        raise NotFoundError(f"Expected a folder at {model}, got none; check the path, or give a hub id "
                            "such as owner/name.")
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_only}
    with _hub_errors(model, revision):
        from huggingface_hub import hf_hub_download

        found = Path(hf_hub_download(model, INDEX, **options))
        if not makes_video(getattr(diffusers, str(_read_index(found).get("_class_name")), None)):
            return found.parent, None  # refused for what it is before gigabytes of it are fetched
        with quiet():
            folder = Path(diffusers.DiffusionPipeline.download(model, **options))
    return folder, folder.name if folder.parent.name == "snapshots" else None


@contextmanager
def _hub_errors(model: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors
    from huggingface_hub.utils import logging as told

    level = told.get_verbosity()
    told.set_verbosity(logging.ERROR)  # it tells of every try
    at = model if revision is None else f"{model} at revision {revision}"
    try:
        yield
    except errors.GatedRepoError:
        raise FetchError(f"Expected access to {model} on the hub, got none, for it is gated; accept its terms there "
                         "and log in with: hf auth login") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise NotFoundError(f"Expected {at} to be a folder or a model on the hub, got neither; check its name, "
                            "or log in if it is private.") from None
    except errors.LocalEntryNotFoundError:
        raise FetchError(_unreachable(at)) from None
    except errors.EntryNotFoundError:
        raise InputError(f"Expected a model in diffusers' format, got {at} without {INDEX}; use its '-diffusers' "
                         "version if it has one.") from None
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        raise FetchError(f"{_unreachable(at)} ({type(error).__name__})") from None
    finally:
        told.set_verbosity(level)


def _unreachable(model: str) -> str:
    return (f"Expected {model} in the hub's cache or the hub in reach, got neither; give --model a local folder that "
            "'hf download' or save_pretrained wrote, or connect")


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Expected readable JSON in {path}, got '{error}'; fetch the model again.") from None
    if not isinstance(index, dict):
        raise InputError(f"Expected an object in {path}, got a {type(index).__name__}; fetch the model again.")
    return index


@contextmanager
def _broken_folder(folder: Path) -> Iterator[None]:
    """What a damaged folder makes diffusers and safetensors raise."""
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:  # of a tokenizer, say
        raise MissingExtraError(f"Expected the packages that {folder} needs, got '{shortened(error)}'; "
                                "install what it names.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"Expected every component that {INDEX} lists in {folder}, got '{shortened(error)}'; "
                         "fetch the model again.") from error


def shortened(error: Exception | str) -> str:
    """What an error of a library says, or another text, as one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def _check_weights(pipe: Any, folder: Path) -> None:
    """InputError where a part's configuration asks for weights that its files do not hold: diffusers leaves those empty
    and says nothing."""
    for part, model in pipe.components.items():
        for name, value in getattr(model, "named_parameters", tuple)():
            if value.is_meta:
                raise InputError(f"Expected all weights of {part} in {folder}, got none for {name}; fetch the model "
                                 "again.")


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice from diffusers and transformers in the block; nor what a user can change nothing about:
    diffusers' word of what of its own is old, and torch's of a missing GPU compiler."""
    logs = [require(f"{name}.utils.logging", "generate") for name in ("diffusers", "transformers")]
    before = [log.get_verbosity() for log in logs]
    bars = [log.is_progress_bar_enabled() for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    compiler = logging.getLogger("torch.utils.cpp_extension")
    compiler_level = compiler.level
    compiler.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")
            yield
    finally:
        compiler.setLevel(compiler_level)
        for log, level, bar in zip(logs, before, bars, strict=True):
            log.set_verbosity(level)
            if bar:
                log.enable_progress_bar()


# --- device, precision, memory


@contextmanager
def enough_memory(
    name: str, device: str, quantize: Quantize | None = None, savers: Sequence[Saver] = ()
) -> Iterator[None]:
    """Turns what is raised when memory runs out into a BudgetError that names what is left to try.

    Args:
        name: what the memory is for, a pipeline's class.
        device, quantize, savers: as it was loaded.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own are RuntimeErrors, told apart by their words
        if not (isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)):
            raise
        offloads = () if device == "cpu" or set(savers) & set(_OFFLOADS) else tuple(_OFFLOADS)
        left = [saver for saver in ("tiling", "attention-slicing", *offloads) if saver not in savers]
        ways = [*([] if quantize == "int4" else ["--quantize int4"]), *(f"--saver {saver}" for saver in left)]
        raise BudgetError(f"Expected enough memory on {device} for {name}, got too little; use "
                          f"{', '.join([*ways, 'a smaller size or fewer frames'])}.") from None


def _device(torch: ModuleType, asked: str) -> str:
    if asked == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise InputError(f"Expected a torch device such as cpu, cuda or cuda:1, got {asked}; choose one.") from None
    if device.type == "cpu":
        return "cpu"  # whatever its number
    there: Any = getattr(torch, device.type, None)
    if not getattr(there, "is_available", bool)() or (device.index or 0) >= there.device_count():
        raise InputError(f"Expected a device that this machine has, got {asked}; use --device cpu.")
    return asked


def _dtype(torch: ModuleType, asked: str, device: str) -> Any:
    if asked != "auto":
        return getattr(torch, asked)
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_options(device: str, dtype: str, quantize: str | None, savers: Sequence[str]) -> None:
    if dtype not in DTYPES:
        raise InputError(f"Expected dtype to be one of {DTYPES}, got {dtype!r}; choose one.")
    if quantize not in (None, *get_args(Quantize)):
        raise InputError(f"Expected quantize to be one of {get_args(Quantize)}, got {quantize!r}; choose one.")
    for saver in savers:
        if saver not in get_args(Saver):
            raise InputError(f"Expected savers to be among {get_args(Saver)}, got {saver!r}; choose from them.")
    offloads = [saver for saver in savers if saver in _OFFLOADS]
    if len(offloads) > 1:
        raise InputError(f"Expected one kind of offloading, got {' and '.join(offloads)}; leave one.")
    if offloads and device == "cpu":
        raise InputError(f"Expected a GPU to offload from, got {offloads[0]} on the CPU; leave it out or use "
                         "--quantize.")


def _spare(pipe: Any, savers: Sequence[Saver], device: str) -> None:
    vae: Any = getattr(pipe, "vae", None)
    for saver in savers:
        if saver == "attention-slicing":
            pipe.enable_attention_slicing()
        elif saver in _OFFLOADS:
            if saver == "group-offload":
                import torch

                options: dict[str, Any] = {"onload_device": torch.device(device), "offload_type": "leaf_level"}
            else:
                options = {"device": device}
            getattr(pipe, _OFFLOADS[saver])(**options)
        else:
            if not hasattr(vae, f"enable_{saver}"):
                raise InputError(f"Expected an autoencoder with {saver}, got {type(vae).__name__}, which has none; "
                                 "leave that saver out.")
            getattr(vae, f"enable_{saver}")()
            if saver == "tiling" and hasattr(vae, "use_framewise_decoding"):
                vae.use_framewise_decoding = True  # tiles in time too, where the class knows them
