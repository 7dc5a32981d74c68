"""Where checkpoints lie: embedded in the package, in a directory or a GGUF file, or in the HF hub's cache; digests.

The hub's cache names a large file by its sha256. The name is a promise: it is believed as long as only the fingerprint
is wanted, which spares reading weights for values that are there already. `andor.load` checks it.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from andor.models.config import read_json

EMBEDDED = Path(__file__).parent.parent / "embedded"
"""The models that ship with the package, one HF-format directory each."""

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Where the weights are: in one file, or else in those that the index names."""

NEEDED = [
    "config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
]
"""What is needed of a hub checkpoint beside its weights, as far as the repository has it."""

OLDER = ["tokenizer.model", "vocab.json", "merges.txt"]
"""The tokenizer where there is no tokenizer.json."""

HUB_ID = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w.+-][\w./ +-]*\.gguf))?", re.ASCII
)
"""OWNER/NAME, perhaps @ a branch, tag or commit, perhaps : a GGUF file."""


def embedded_models() -> tuple[str, ...]:
    """Names of the models that ship with the package."""
    return tuple(sorted(path.parent.name for path in EMBEDDED.glob("*/config.json")))


def locate(name: str, *, weights: bool) -> tuple[Path, str | None]:
    """Find the directory that holds a checkpoint, or its GGUF file, and its commit if it is from the hub.

    Downloads a hub model, with its weights or without them; a GGUF file is downloaded whole.

    Raises:
      ValueError: the name is no embedded model, no directory, no GGUF file and no hub id, or the download fails.
    """
    try:
        # "no name", because Path("") would be the current directory
        folder = EMBEDDED / name if name in embedded_models() else Path(name or "no name").expanduser()
        is_folder, exists = folder.is_dir(), folder.exists()
        is_ours = is_folder or is_gguf(folder)
    except (OSError, RuntimeError, ValueError):  # too long for a path, a user without a home, NUL
        is_ours = is_folder = exists = False
    if is_ours and not any(unicodedata.category(each) in ("Cc", "Cs") for each in name):
        return folder, None
    hub = HUB_ID.fullmatch(name)
    if not hub or exists or ".." in name or (name.endswith(".gguf") and not hub["file"]):
        shown = repr(name if len(name) <= 200 else f"{name[:197]}...")
        if is_ours:
            what = "directory" if is_folder else "file"
            raise ValueError(f"the name of the {what} {shown} holds control characters. Rename it.")
        if name.endswith(".gguf") and not exists:
            raise ValueError(f"no file {shown}. Check the path, or give REPOSITORY:FILE.gguf for one on the hub.")
        raise ValueError(
            f"unknown model {shown}. Give one of {', '.join(embedded_models())}, a directory in HF format, a GGUF file "
            "that is there, or a hub id like Qwen/Qwen2.5-7B, Qwen/Qwen2.5-7B@main or REPOSITORY:FILE.gguf."
        )
    repository, revision, file = hub["repository"], hub["revision"], hub["file"]
    if file:
        folder = _download(name, repository, revision, [str(part) for part in split_files(Path(file))])
        if not (folder / file).is_file():
            raise ValueError(f"{repository} has no file {file}. Look at its files on the hub.")
        return folder / file, folder.name
    folder = _download(name, repository, revision, [*NEEDED, ONE_FILE] if weights else NEEDED, OLDER)
    shards = _shards(folder) if weights else []
    if shards:
        folder = _download(name, repository, folder.name, [*NEEDED, *shards], OLDER)
    return folder, folder.name  # the hub's cache keeps each commit in a folder of its name


def _download(
    name: str, repository: str, revision: str | None, needed: Sequence[str], perhaps: Sequence[str] = ()
) -> Path:
    """The folder of a commit in the hub's cache, with what is needed. Raises ValueError, with `name`, if that fails.

    Without a connection the hub's library also fails where the cache lacks what was never needed (`perhaps`).
    """
    from huggingface_hub import snapshot_download

    for files in ([*needed, *perhaps], [*needed]):
        try:
            return Path(snapshot_download(repository, revision=revision, allow_patterns=files))
        except Exception as error:  # the hub's own errors, and those of every layer of its network stack
            failure, partial = error, getattr(error, "snapshot_path", None)
        if partial is None:
            break
    reason = f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0]}"
    if partial is None:
        raise ValueError(f"{name!r} is no directory here, and could not be had from the hub: {reason}") from failure
    weights = [each for each in needed if each.endswith((".safetensors", ".gguf"))]
    there = [*Path(partial).rglob("*.safetensors"), *Path(partial).rglob("*.gguf")]
    never = " Its weights were never downloaded." if weights and not there else ""
    raise ValueError(
        f"the hub's cache holds only a part of {name!r}, and the hub could not be reached.{never} Give the same "
        f"command with a connection to the hub (without HF_HUB_OFFLINE). {reason}"
    ) from failure


def _shards(folder: Path) -> list[str]:
    """Names of the files in the index, where there is no single one. What is wrong with it is said when it is read."""
    if (folder / ONE_FILE).exists() or not (folder / INDEX).exists():
        return []
    files = read_json(folder / INDEX).get("weight_map")
    return sorted({str(file) for file in files.values()}) if isinstance(files, dict) else []


def is_gguf(path: Path) -> bool:
    """Whether a checkpoint is a GGUF file, and no directory."""
    return path.suffix == ".gguf" and path.is_file()


def check_no_gguf(folder: Path) -> None:
    """Raise ValueError where a directory that lacks something holds GGUF files, one of which may be meant."""
    found = sorted(file for file in folder.glob("*.gguf"))
    if found:
        more = f" (or {', '.join(file.name for file in found[1:4])})" if found[1:] else ""
        raise ValueError(f"{folder} holds GGUF files. Name the one to load: {found[0]}{more}.")


def split_files(path: Path) -> tuple[Path, ...]:
    """All files of a GGUF, by the name of one of them: NAME-00001-of-00003.gguf, ... where it is split."""
    found = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if not found:
        return (path,)
    name, _, count = found.groups()
    return tuple(path.with_name(f"{name}-{number:05}-of-{count}.gguf") for number in range(1, int(count) + 1))


def source(folder: Path) -> str:
    """What transformers calls a checkpoint: its hub id if the folder is in the hub's cache, else the folder."""
    repository = re.fullmatch(r"models--([^-].*?)--(.+)", folder.parent.parent.name)
    return "/".join(repository.groups()) if repository and folder.parent.name == "snapshots" else str(folder)


def digest(files: Iterable[Path]) -> str:
    """Give the sha256 over the sha256 of each file (hex)."""
    return hashlib.sha256(b"".join(_promised_sha256(file) or _read_sha256(file) for file in files)).hexdigest()


def _promised_sha256(path: Path) -> bytes | None:
    """The sha256 by which the hub's cache names a large file; None for other files."""
    blob = path.resolve()
    in_cache = blob.parent.name == "blobs" and blob.parent.parent.name.startswith("models--")
    return bytes.fromhex(blob.name) if in_cache and re.fullmatch("[0-9a-f]{64}", blob.name) else None


def check_promises(files: Iterable[Path]) -> None:
    """Compare files with the sha256 by which the hub's cache names them. Reads them, about 1.5 GB per second.

    Raises:
      ValueError: one is damaged.
    """
    for file in files:
        promised = _promised_sha256(file)
        if promised is not None and promised != _read_sha256(file):
            raise ValueError(
                f"{file} is damaged: its content is not what its name in the hub's cache promises. Remove "
                f"{file.resolve()}, and give the same command again to download it again."
            )


def _read_sha256(path: Path) -> bytes:
    state = path.stat()
    return _sha256_of(path.resolve(), state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_of(path: Path, size: int, modified: int) -> bytes:
    """Of a file in this state: size and time of its last change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
