"""Denoisers in 8 or 4 bits, through the first of diffusers' backends that is installed and works on the device."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from types import ModuleType
from typing import Any, Literal

from genwm.errors import InputError, MissingExtraError
from genwm.extras import require

Quantize = Literal["int8", "int4"]


@dataclass(frozen=True)
class Backend:
    """One of diffusers' quantisation backends: the module that it needs, and how its configuration is made."""

    module: str
    package: str
    on_cpu: bool
    make: dict[Quantize, Callable[[ModuleType], Any]]


def _torchao_int8(diffusers: ModuleType) -> Any:
    return diffusers.TorchAoConfig(import_module("torchao.quantization").Int8WeightOnlyConfig())


def _quanto_int4(diffusers: ModuleType) -> Any:
    # Its kernel is compiled with ninja, which torch looks for on the PATH: an environment need not be activated.
    scripts = sysconfig.get_path("scripts")
    if which("ninja") is None and which("ninja", path=scripts) is not None:
        os.environ["PATH"] = os.pathsep.join([*filter(None, [os.environ.get("PATH")]), scripts])
    return diffusers.QuantoConfig(weights_dtype="int4")


QUANTO = Backend("optimum.quanto", "optimum-quanto", True, {
    "int8": lambda diffusers: diffusers.QuantoConfig(weights_dtype="int8"), "int4": _quanto_int4,
})
TORCHAO = Backend("torchao", "torchao", True, {"int8": _torchao_int8})
BITSANDBYTES = Backend("bitsandbytes", "bitsandbytes", False, {
    "int8": lambda diffusers: diffusers.BitsAndBytesConfig(load_in_8bit=True),
    "int4": lambda diffusers: diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
})
#: In order of preference. Quanto is the one whose 8- and 4-bit kernels diffusers lets run without a GPU.
BACKENDS = (BITSANDBYTES, TORCHAO, QUANTO)


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def quantisation(quantize: Quantize, device: str) -> Callable[[], Any]:
    """What makes the configuration of the first backend that is installed and works on the device."""
    usable = [one for one in BACKENDS if quantize in one.make and (one.on_cpu or device != "cpu")]
    for backend in usable:
        if installed(backend.module):
            make = backend.make[quantize]
            return lambda: make(require("diffusers", "generate"))
    names = " or ".join(one.package for one in usable)
    raise MissingExtraError(f"Expected {names} for {quantize} weights on {device}, got none installed; "
                            f"run: pip install {usable[0].package}")


def per_component(index: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """The same configuration for each denoiser: of diffusers' own models, all but the autoencoders."""
    denoisers = [name for name in index if re.fullmatch(r"(transformer|unet)(_\d)?", name) and index[name][0]]
    if not denoisers:
        raise InputError("Expected a model with a transformer or a unet to quantise, got one without; "
                         "leave --quantize out.")
    diffusers = require("diffusers", "generate")
    return diffusers.PipelineQuantizationConfig(quant_mapping={name: make() for name in denoisers})
