"""Language models: `load` gives a decoder with its tokenizer, from the package, a directory or the HF hub."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.sharding import Mesh

from andor.core.text import one_line
from andor.devices import rules
from andor.devices.memory import available_bytes
from andor.devices.mesh import sizes_of
from andor.models import gemma3, llama, mistral, olmo2, qwen2, qwen3
from andor.models.config import read_config, read_json
from andor.models.decoder import Decoder, DecoderConfig
from andor.models.family import Family
from andor.models.hub import EMBEDDED as EMBEDDED
from andor.models.hub import OLDER, check_no_gguf, check_promises, digest, is_gguf, locate
from andor.models.hub import embedded_models as embedded_models
from andor.models.tokenizer import as_the_file_says
from andor.models.weights import check_weights, count_parameters, load_decoder, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FAMILIES = {
    module.FAMILY.model_type: module.FAMILY
    for module in (
        llama,
        qwen2,
        qwen3,
        mistral,
        gemma3,
        olmo2,
    )
}

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A decoder ready to be evaluated.

    Attributes:
      name: what `load` was given; names the model in tables and run folders.
      family: HF `model_type`, one of `FAMILIES`.
      decoder: the network, a Flax NNX module.
      tokenizer: the HF fast tokenizer of the checkpoint.
      dtype: dtype of weights and activations.
      fingerprint: sha256 over config.json and the weight files, or over the GGUF (hex); equal fingerprints are equal
        models.
      mesh: the devices it lies on, or None for the default device.
      revision: commit of the hub repository that was loaded (40 hex digits), or None if it is not from the hub.
    """

    name: str
    family: str
    decoder: Decoder
    tokenizer: "PreTrainedTokenizerFast"
    dtype: jnp.dtype
    fingerprint: str
    mesh: Mesh | None = None
    revision: str | None = None

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return count_parameters(self.decoder.config)

    def __repr__(self) -> str:
        on = "" if self.mesh is None else " on " + ", ".join(f"{name}={n}" for name, n in self.mesh.shape.items())
        what = f"{self.family}, {self.parameters:,} parameters, {self.dtype}"
        return f"<LanguageModel {one_line(repr(self.name), 120)}: {what}{on}>"


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model in its directory: everything about it that is known without reading its weights into memory.

    Attributes:
      name: what `find` was given.
      folder: where its files lie, or its GGUF file.
      revision: commit of the hub repository, or None if it is not from the hub.
      family: its family.
      settings: config.json as it stands, or what it would say of a GGUF.
      config: its architecture.
      stored_dtype: the dtype that config.json names, if any; of a GGUF, bfloat16 if its matrices are.
    """

    name: str
    folder: Path
    revision: str | None
    family: Family
    settings: Mapping[str, object]
    config: DecoderConfig
    stored_dtype: str | None

    @functools.cached_property
    def parameters(self) -> int:
        """Number of weights."""
        return count_parameters(self.config)

    @functools.cached_property
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The HF fast tokenizer. Raises ValueError where there is none."""
        if is_gguf(self.folder):
            from andor.models import gguf_file, gguf_tokenizer  # `gguf` is slow to import, and only needed here

            return gguf_tokenizer.read_tokenizer(gguf_file.read_gguf(self.folder))
        return _load_tokenizer(self.folder)

    @functools.cached_property
    def tokenizer_hash(self) -> str:
        """sha256 over the files, or the metadata of a GGUF, that decide how text becomes tokens (hex)."""
        if is_gguf(self.folder):
            from andor.models import gguf_file, gguf_tokenizer

            return gguf_tokenizer.tokenizer_hash(gguf_file.read_gguf(self.folder))
        names = TOKENIZER_FILES if (self.folder / "tokenizer.json").exists() else (*TOKENIZER_FILES, *OLDER)
        files = [self.folder / name for name in names]
        return digest(file for file in files if file.exists())

    def check_weights(self) -> None:
        """Read the headers of the weight files. Raises as `load` where they do not fit the config."""
        check_weights(self.folder, self.config, self.family)

    @property
    def fingerprint(self) -> str:
        """sha256 over config.json and the weight files, or over the GGUF (hex). Reads them once while unchanged.

        Weights in the hub's cache are not read: their names are believed, until `load` checks them.
        """
        config = [] if is_gguf(self.folder) else [self.folder / "config.json"]
        return digest([*config, *weight_files(self.folder)])

    def dtype_on(
        self, mesh: Mesh | None, wanted: str = "auto", *, backend: str | None = None, available: int | None = None
    ) -> jnp.dtype:
        """The dtype that `load` gives the weights on these devices, or on others of a kind with so many free bytes."""
        if wanted not in ("auto", "float32", "bfloat16", "float16"):
            raise ValueError(f"load(dtype=...) must be auto, float32, bfloat16 or float16; got {wanted!r}.")
        available = available_bytes(mesh) if available is None else available
        if wanted == "auto":
            fits = 4 * sizes_of(mesh)[0] * self.parameters <= available
            on_cpu = (backend or rules.backend()) == "cpu"
            wanted = "bfloat16" if self.stored_dtype == "bfloat16" and not (on_cpu and fits) else "float32"
        return jnp.dtype(wanted)


def find(name: str, *, weights: bool = True) -> Checkpoint:
    """Find a model, and read its config.

    Args:
      name: an embedded model ("tiny-llama", ...), a directory in HF format, a GGUF file, or a hub id
        ("Qwen/Qwen2.5-7B"), perhaps with a branch, tag or commit ("Qwen/Qwen2.5-7B@main"), perhaps with a GGUF file
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf").
      weights: whether a hub model is downloaded with its weights. A GGUF file is downloaded whole.

    Raises:
      ValueError: the name is none of these, or the family or a setting is not implemented.
      FileNotFoundError: there is no config.json.
    """
    folder, commit = locate(str(name), weights=weights)
    settings, family, config = _read_architecture(folder)
    stored = settings.get("dtype") or settings.get("torch_dtype")
    return Checkpoint(str(name), folder, commit, family, settings, config, stored)


@rules.standard_rules()
def load(name: str, *, dtype: str = "auto", mesh: Mesh | None = None) -> LanguageModel:
    """Load a model.

    Args:
      name: as for `find`.
      dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 if the checkpoint is stored so, on an accelerator
        or where float32 would not fit, and float32 everywhere else (float16 is given up because its log-odds overflow).
      mesh: devices to lie on (`andor.mesh.make_mesh`); `andor.evaluate` divides the masks among them. By default the
        default device.

    Raises:
      ValueError: as `find`, or the weights do not fit the config, the mesh or the memory, or are not those that the
        hub's cache promises, or the dtype is unknown.
      FileNotFoundError: a file of the checkpoint is missing.
    """
    found = find(name)
    jax_dtype = found.dtype_on(mesh, dtype)
    needed, available = sizes_of(mesh)[0] * found.parameters * jax_dtype.itemsize, available_bytes(mesh)
    if needed > available:
        raise ValueError(
            f"the weights of {name!r} take {needed / 1e9:.1f} GB in {jax_dtype}, and {available / 1e9:.1f} GB of "
            "memory are free. Use a smaller dtype (bfloat16), or another device."
        )
    fingerprint, tokenizer = found.fingerprint, found.tokenizer  # what is wrong here is cheaper to find first
    check_promises(weight_files(found.folder))
    return LanguageModel(
        name=found.name,
        family=found.family.model_type,
        decoder=load_decoder(found.folder, found.config, found.family, jax_dtype, mesh),
        tokenizer=tokenizer,
        dtype=jax_dtype,
        fingerprint=fingerprint,
        mesh=mesh,
        revision=found.revision,
    )


def load_config(
    name: str, *, dtype: str = "auto", backend: str | None = None, available: int | None = None
) -> tuple[DecoderConfig, jnp.dtype]:
    """Architecture of a model and the dtype that `load` would choose on a backend, without its weights.

    Name, dtype and errors as for `load`; the backend is JAX's name ("cpu", "gpu", "tpu") and `available` its free
    bytes, by default those of the present one.
    """
    found = find(name, weights=False)
    return found.config, found.dtype_on(None, dtype, backend=backend, available=available)


def load_tokenizer(name: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model, without its weights.

    Name and errors as for `load`: what `load` would refuse because of config.json is refused here too.
    """
    return find(name, weights=False).tokenizer


def _read_architecture(folder: Path) -> tuple[dict, Family, DecoderConfig]:
    """config.json as it stands, or what it would say of a GGUF; its family, and the decoder it describes."""
    if is_gguf(folder):
        from andor.models import gguf_config, gguf_file

        path, settings = folder, gguf_config.read_settings(gguf_file.read_gguf(folder))
    else:
        path = folder / "config.json"
        if not path.exists():
            check_no_gguf(folder)
            raise FileNotFoundError(
                f"{path} is missing. A model directory holds config.json, *.safetensors and a tokenizer."
            )
        settings = read_json(path)
    kind = settings.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise ValueError(
            f"{path} has model_type {str(kind)[:60]!r}; andor implements {', '.join(sorted(FAMILIES))}. Choose a model "
            "of these."
        )
    try:
        return settings, family, read_config(settings, family)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", *OLDER)):
        raise FileNotFoundError(
            f"{folder} holds no tokenizer: neither tokenizer.json nor {', '.join(OLDER)}. Put it there; if this is the "
            "hub's cache, give the same command with a connection to the hub (without HF_HUB_OFFLINE)."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever the library trips over; a panic of its Rust part is no Exception
        message = (str(error).splitlines() or [""])[0]
        raise ValueError(f"no tokenizer could be read from {folder}: {type(error).__name__}: {message}") from error
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer in {folder} has no tokenizer.json; andor needs its character offsets.")
    return as_the_file_says(tokenizer, folder)
