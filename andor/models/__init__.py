"""Language models: `load` gives a decoder with its tokenizer, from the package, a directory or the HF hub."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from andor.memory import available_bytes
from andor.models import llama, qwen2
from andor.models.decoder import Decoder, DecoderConfig
from andor.models.family import Family
from andor.models.loading import count_parameters, load_decoder, read_config, read_json, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FAMILIES = {family.model_type: family for family in (llama.FAMILY, qwen2.FAMILY)}

EMBEDDED = Path(__file__).parent.parent / "embedded"
"""The models that ship with the package, one HF-format directory each."""

WITHOUT_WEIGHTS = ["*.json", "*.jinja"]
"""What a hub checkpoint has besides its weights: config, index, tokenizer, chat template."""


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder ready to be evaluated.

    Attributes:
      name: what `load` was given; names the model in tables and run folders.
      family: HF `model_type`, "llama" or "qwen2".
      decoder: the network, a Flax NNX module.
      tokenizer: the HF fast tokenizer of the checkpoint.
      dtype: dtype of weights and activations.
      fingerprint: sha256 over config.json and the weight files (hex); equal fingerprints are equal models.
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


def embedded_models() -> tuple[str, ...]:
    """Names of the models that ship with the package."""
    return tuple(sorted(path.parent.name for path in EMBEDDED.glob("*/config.json")))


def load(name: str, *, revision: str | None = None, dtype: str = "auto", mesh: Mesh | None = None) -> LanguageModel:
    """Load a model.

    Args:
      name: an embedded model ("tiny-llama", ...), a directory in HF format, or a hub id ("Qwen/Qwen2.5-7B").
      revision: branch, tag or commit of a hub id.
      dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 if the checkpoint is stored so, on an accelerator
        or where float32 would not fit, and float32 everywhere else (float16 is given up because its log-odds overflow).
      mesh: devices to lie on (`andor.mesh.make_mesh`); `andor.evaluate` divides the masks among them. By default the
        default device.

    Raises:
      ValueError: the name is none of the three, the family or a setting is not implemented, the weights do not fit the
        config, the mesh or the memory, or the dtype is unknown.
      FileNotFoundError: a file of the checkpoint is missing.
    """
    folder, commit = _find(str(name), revision, [*WITHOUT_WEIGHTS, "*.safetensors"])
    settings, family, config = _read_architecture(folder)
    copies = 1 if mesh is None else mesh.shape["data"]
    numbers, available = copies * count_parameters(config), available_bytes(mesh)
    jax_dtype = _dtype(settings, dtype, jax.default_backend(), numbers, available)
    needed = numbers * jax_dtype.itemsize
    if needed > available:
        raise ValueError(
            f"the weights of {name!r} take {needed / 1e9:.1f} GB in {jax_dtype}, and {available / 1e9:.1f} GB of "
            "memory are free. Use a smaller dtype (bfloat16), or another device."
        )
    files, tokenizer = weight_files(folder), _load_tokenizer(folder)  # what is wrong here is cheaper to find first
    return LanguageModel(
        name=str(name),
        family=family.model_type,
        decoder=load_decoder(folder, config, family, jax_dtype, mesh),
        tokenizer=tokenizer,
        dtype=jax_dtype,
        fingerprint=_fingerprint(folder / "config.json", files),
        mesh=mesh,
        revision=commit,
    )


def load_config(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    backend: str | None = None,
    available: int | None = None,
) -> tuple[DecoderConfig, jnp.dtype]:
    """Architecture of a model and the dtype that `load` would choose on a backend, without its weights.

    Name, revision, dtype and errors as for `load`; the backend is JAX's name ("cpu", "gpu", "tpu") and `available` its
    free bytes, by default those of the present one.
    """
    settings, _, config = _read_architecture(_find(str(name), revision, WITHOUT_WEIGHTS)[0])
    backend, available = backend or jax.default_backend(), available_bytes() if available is None else available
    return config, _dtype(settings, dtype, backend, count_parameters(config), available)


def load_tokenizer(name: str, *, revision: str | None = None) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model, without its weights.

    Name, revision and errors as for `load`: what `load` would refuse because of config.json is refused here too.
    """
    folder, _ = _find(str(name), revision, WITHOUT_WEIGHTS)
    _read_architecture(folder)
    return _load_tokenizer(folder)


def _dtype(settings: dict, dtype: str, backend: str, numbers: int, available: int) -> jnp.dtype:
    """dtype of so many weights in so many free bytes."""
    if dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise ValueError(f"load(dtype=...) must be auto, float32, bfloat16 or float16; got {dtype!r}.")
    if dtype == "auto":
        stored = settings.get("dtype") or settings.get("torch_dtype")
        small = stored == "bfloat16" and (backend != "cpu" or 4 * numbers > available)
        dtype = "bfloat16" if small else "float32"
    return jnp.dtype(dtype)


def _find(name: str, revision: str | None, files: list[str]) -> tuple[Path, str | None]:
    """The directory that holds the checkpoint, and its commit if it is from the hub.

    Downloads files of these patterns if `name` is a hub id.
    """
    folder = EMBEDDED / name if name in embedded_models() else Path(name or "no name").expanduser()
    if folder.is_dir():  # "no name", because Path("") would be the current directory
        if revision is not None:
            raise ValueError(f"load(revision={revision!r}) is for models from the hub, and {name!r} is {folder}.")
        return folder, None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or folder.exists():
        raise ValueError(
            f"unknown model {name!r}. Give one of {', '.join(embedded_models())}, a directory in HF format, or a hub "
            "id like Qwen/Qwen2.5-7B."
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except Exception as error:  # the hub's own errors, and those of every layer of its network stack
        raise ValueError(
            f"{name!r} is no directory here, and could not be had from the hub: {type(error).__name__}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return folder, folder.name  # the hub's cache keeps each commit in a folder of its name


def _read_architecture(folder: Path) -> tuple[dict, Family, DecoderConfig]:
    """config.json as it stands, its family, and the decoder it describes."""
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing. A model directory holds config.json, *.safetensors and a tokenizer."
        )
    settings = read_json(path)
    family = FAMILIES.get(settings.get("model_type"))
    if family is None:
        raise ValueError(
            f"{path} has model_type {settings.get('model_type')!r}; andor implements {', '.join(sorted(FAMILIES))}."
        )
    return settings, family, read_config(settings, family)


def _load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a broken tokenizer.json raises whatever the library trips over
        message = (str(error).splitlines() or [""])[0]
        raise ValueError(f"no tokenizer could be read from {folder}: {type(error).__name__}: {message}") from error
    if not tokenizer.is_fast:
        raise ValueError(f"the tokenizer in {folder} has no tokenizer.json; andor needs its character offsets.")
    return tokenizer


def _fingerprint(config: Path, files: list[Path]) -> str:
    digest = hashlib.sha256(config.read_bytes())
    for path in files:
        digest.update(_sha256(path))
    return digest.hexdigest()


def _sha256(path: Path) -> bytes:
    """Of a file's content. The hub's cache names a large file by it, which spares reading the weights once more."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return bytes.fromhex(blob.name)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
