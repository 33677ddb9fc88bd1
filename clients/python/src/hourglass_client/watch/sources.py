"""Which source the `SOURCE` of `hourglass watch` names, what it needs, and where its history is."""

import argparse
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hourglass_client.watch.history import History
from hourglass_client.watch.source import Source

Kind = Literal["folder", "video", "bucket"]

_HISTORY = ".hourglass-watch.db"
_STREAMS = {"http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp"}
_EXTRA_BY_MODULE: dict[Kind, dict[str, str]] = {
    "folder": {"watchfiles": "watch"},
    "video": {"watchfiles": "watch", "av": "video"},
    "bucket": {"fsspec": "bucket"},
}
_EVERY_S: dict[Kind, float] = {"folder": 30.0, "video": 1.0, "bucket": 5.0}


def kind_of(source: str) -> Kind:
    """Return the kind of a source: a folder, a video (a file, a camera, a stream), or a bucket.

    Raises:
        ValueError: There is no such file or folder, or the extra for its kind is missing.
    """
    kind: Kind
    if "://" in source:
        kind = "video" if source.partition("://")[0].lower() in _STREAMS else "bucket"
    elif Path(source).is_dir():
        kind = "folder"
    elif Path(source).exists():
        kind = "video"
    else:
        raise ValueError(
            f"{source} is no folder and no file; a stream begins with rtsp://, a bucket with s3:// or the like"
        )
    extra_by_module = _EXTRA_BY_MODULE[kind]
    if missing := [module for module in extra_by_module if importlib.util.find_spec(module) is None]:
        install = f"pip install 'hourglass-client[{','.join(extra_by_module.values())}]'"
        raise ValueError(f"watching a {kind} needs {' and '.join(missing)}: `{install}`")
    return kind


def history_of(options: argparse.Namespace) -> Path:
    """Return the path of the history: in the folder of the images, or named after the bucket in the current one."""
    if options.history:
        return Path(options.history)
    if kind_of(options.source) == "bucket":
        return Path(f"{_slug(options.source)}{_HISTORY}")
    return _folder_of(options) / _HISTORY


def open_source(options: argparse.Namespace, history: History, say: Callable[[str], None]) -> Source:
    """Return the source that the command line describes.

    Raises:
        ValueError: A bucket cannot be listed, or images cannot be moved there from a folder.
        OSError: A video file cannot be read.
    """
    kind = kind_of(options.source)
    places = [str(place) for place in (options.move, options.copy, options.heatmaps) if place]
    every_s = _EVERY_S[kind] if options.every_s is None else options.every_s
    if kind == "bucket":
        from hourglass_client.watch.bucket import Bucket  # noqa: PLC0415  an extra

        settles = options.settle_s > 0
        return Bucket(options.source, history.knows, every_s=every_s, ignored=places, settles=settles, say=say)
    if any("://" in place for place in places):
        raise ValueError("only images of a bucket can be put into a bucket")
    ignored = [Path(place) for place in places]
    if kind == "folder":
        from hourglass_client.watch.folder import Folder  # noqa: PLC0415  as above

        folder = Path(options.source)
        return Folder(folder, history.knows, ignored=ignored, settle_s=options.settle_s, rescan_s=every_s)
    from hourglass_client.watch.video import Video  # noqa: PLC0415  as above

    return Video(options.source, _folder_of(options), history, every_s=every_s, ignored=ignored, say=say)


def _folder_of(options: argparse.Namespace) -> Path:
    """Return the folder that is watched: the source itself, or the one of a video's frames."""
    if kind_of(options.source) == "folder":
        return Path(options.source)
    return Path(options.frames or f"{_slug(options.source)}-frames")


def _slug(source: str) -> str:
    """Return a file name for a source, without the user name and password of a URL."""
    place = re.sub(r"^[a-z0-9+]+://([^/]*@)?", "", source) if "://" in source else Path(source).stem
    return re.sub(r"[^A-Za-z0-9.-]+", "-", place).strip("-.") or "source"
