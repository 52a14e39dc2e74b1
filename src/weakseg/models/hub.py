"""A network's folder: `config.json` and `model.safetensors`, on disk or on a hub."""

# ruff: noqa: PLC0415  huggingface_hub is imported when a hub is asked
from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from weakseg import __version__
from weakseg.files import replacing, write_json
from weakseg.types import RunError, WeightsError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_LONGEST = 160


def save_folder(
    folder: Path | str, config: Mapping[str, object], state: Mapping[str, Tensor]
) -> None:
    """Write a network's folder, `config.json` last; an earlier network there is replaced.

    Args:
        folder: Made if needed.
        config: What is needed to build the network anew, as JSON knows it; `weakseg`, the version,
            is added.
        state: Its tensors.

    Raises:
        WeightsError: The folder cannot be written.
    """
    folder = Path(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        with suppress(NotADirectoryError):
            (folder / CONFIG).unlink(missing_ok=True)
        size = sum(value.nbytes for value in tensors.values())
        with replacing(folder / WEIGHTS, size=size) as part:
            save_file(tensors, part, metadata={"format": "pt"})
        write_json(folder / CONFIG, {**config, "weakseg": __version__})
    except RunError as error:
        raise WeightsError(str(error)) from error


def load_folder(
    place: Path | str, format_: str, *, revision: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a network's folder.

    Args:
        place: A folder that `save_folder` wrote, or a repository of the Hugging Face hub, as
            `owner/name`.
        format_: What `config.json` must say under `format`.
        revision: The repository's branch, tag or commit.

    Returns:
        What `config.json` holds, and the tensors.

    Raises:
        WeightsError: There is no such folder or repository, or it is no such network.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _downloaded(str(place), revision)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = config.get("format") if isinstance(config, dict) else None
        if found != format_:
            raise WeightsError(
                f"{folder / CONFIG} is of no network that this weakseg knows (its format is "
                f"{found!r}, not {format_!r})"
            )
        return config, load_file(folder / WEIGHTS)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{folder} cannot be loaded ({said(error)}); expected a folder with {CONFIG} and "
            f"{WEIGHTS}, as a run's segment/model"
        ) from error


def push_folder(folder: Path | str, repo: str, *, private: bool) -> str:
    """Publish a network's folder as a repository of the Hugging Face hub.

    Args:
        folder: What to publish.
        repo: The repository, as `owner/name`; made if needed.
        private: Whether a new repository is private.

    Returns:
        The commit's address.

    Raises:
        WeightsError: The hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder).commit_url)
    except Exception as error:
        raise WeightsError(
            f"cannot publish to {repo!r} ({said(error)}); log in by `hf auth login`, and give "
            "owner/name"
        ) from error


def said(error: Exception) -> str:
    """An error's kind and the beginning of its text, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]


def _downloaded(repo: str, revision: str | None) -> Path:
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise WeightsError(
            f"{repo}: there is no such folder; give a run's segment/model, or a repository as "
            "owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        wanted = [CONFIG, WEIGHTS]
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except Exception as error:
        raise WeightsError(
            f"{repo}: there is no such folder, and no such repository can be fetched from the hub "
            f"({said(error)}); check the name, or connect"
        ) from error
