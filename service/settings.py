"""The settings of the service: every field is an environment variable `HOURGLASS_<NAME>` and a flag `--<name>`."""

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from service.errors import InvalidSettings, shown

PREFIX = "HOURGLASS_"
MIB = 2**20
MIN_KEY_LENGTH = 16
_SECRET = {"api_keys", "write_keys", "read_keys", "collections_url"}  # never part of a message


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:  # a stray comma must not open the service
        raise ValueError("it has commas and nothing between them; leave the setting out to turn it off")
    return parts


def _check_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if len(text) < MIN_KEY_LENGTH or not all("!" <= character <= "~" for character in text):
        raise ValueError(
            f"a key needs {MIN_KEY_LENGTH} or more visible ASCII characters; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return key


def _check_origin(origin: str) -> str:
    if not re.fullmatch(r"\*|https?://[^/\s?#@]+", origin):
        raise ValueError("an origin is scheme, host and port, such as https://lab.example:8443, or * for all")
    return origin


def _check_host(host: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
        raise ValueError("a host is a name without scheme and port, such as lab.example or *.lab.example, or * for all")
    return host


def _check_store(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not re.fullmatch(r"sqlite:///[^\0?#]+|postgres(ql)?://\S+", text):
        raise ValueError(
            "it is sqlite:///FOLDER/FILE (sqlite:////FOLDER/FILE from the root) or postgresql://USER:PASSWORD@HOST/NAME"
        )
    return url


class Settings(BaseModel):
    """Made once in `main` and handed down. Flags win over environment variables, and those over the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models_dir: Path = Field(default=Path("models"), description="directory of models, <name>/<version>/manifest.json")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 is every interface")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8000, description="port; 0 takes a free one")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto uses CUDA where onnxruntime offers it; cuda refuses to start without it"
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="threads inside one inference; 1 is fastest for small models"
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**31)] = Field(
        default=32 * MIB, description="largest request body, in bytes"
    )
    max_json_bytes: Annotated[int, Field(ge=1024, le=2**26)] = Field(
        default=4 * MIB, description="largest JSON in a request, in bytes; arrays may be larger, as bytes"
    )
    max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = Field(
        default=32 * 1024, description="largest request line and headers together, in bytes; over it: 431"
    )
    header_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="seconds for a request's headers to arrive"
    )
    keep_alive_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=75.0, description="seconds that a connection stays open between two requests; load balancers keep 60"
    )
    body_timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=30.0, description="seconds from the headers to the end of the body; over it: 408"
    )
    max_pixels: Annotated[int, Field(ge=1, le=2**30)] = Field(
        default=25_000_000, description="most pixels (width x height) of one image or one array of images"
    )
    max_images: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="most images, or latents, in one request"
    )
    max_frames: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="most pages of a TIFF; the first one is used, as of an animation the first frame"
    )
    max_batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64, description="most images in one inference; what has queued meanwhile goes together"
    )
    max_batch_pixels: Annotated[int, Field(ge=1, le=2**30)] = Field(
        default=MIB, description="most pixels (width x height) in one inference of several images"
    )
    old_versions: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2, description="how many older versions, asked for with version=, stay loaded"
    )
    watch_interval_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=2.0, description="seconds between looks at models_dir for new versions"
    )
    max_queue_images: Annotated[int, Field(ge=1, le=2**20)] = Field(
        default=256, description="most images taken and not yet answered, in each worker; over it: 503"
    )
    max_memory_bytes: Annotated[int, Field(ge=2**20, le=2**44)] = Field(
        default=512 * MIB,
        description="most bytes that bodies, decoded pictures and answers take together, in each worker; over it: 503",
    )
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="seconds from the end of a request's body to its answer; over it: 504"
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        default=1,
        description="processes that answer, each with its own models, and replaced if it dies; 0 is one for each core",
    )
    probe_memory_bytes: Annotated[int, Field(ge=256 * MIB, le=2**40)] = Field(
        default=2048 * MIB, description="address space of the process that tries a new model version, in bytes"
    )
    probe_timeout_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=30, description="seconds, of CPU time and on the clock, that trying a new model version may take"
    )
    grace_s: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=20, description="seconds that requests in flight get to finish after SIGTERM"
    )
    collections_url: Annotated[SecretStr, AfterValidator(_check_store)] = Field(
        default=SecretStr("sqlite:///collections/items.db"),
        description="where collections are kept: sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME with pgvector",
    )
    max_collections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="most collections; over it: 409"
    )
    max_items: Annotated[int, Field(ge=1, le=10**8)] = Field(
        default=1_000_000, description="most items in one collection; over it: 409"
    )
    max_collections_bytes: Annotated[int, Field(ge=2**20, le=2**50)] = Field(
        default=16 * 2**30, description="most bytes that all collections take in their database; over it: 409"
    )
    max_feedback_bytes: Annotated[int, Field(ge=0, le=2**50)] = Field(
        default=0, description="bytes of pictures that people may leave with their opinion; 0 keeps none"
    )
    api_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = Field(
        default=(), description="keys, comma separated, one of which a request must send; empty asks for none"
    )
    write_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = (
        Field(default=(), description="keys, comma separated, that may read and write items, but not administer models")
    )
    read_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = Field(
        default=(), description="keys, comma separated, that may only read, and ask models"
    )
    allowed_hosts: Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split)] = Field(
        default=(),
        description="names that requests may be for, comma separated, *.example for all below one, * for every one; "
        "empty: every one, but on a loopback address without keys only addresses and names without a dot",
    )
    cors_origins: Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(_split)] = Field(
        default=(), description="web sites, comma separated, whose pages may call the service; * is every one"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe log line")
    log_format: Literal["text", "json"] = Field(default="text", description="log lines for people, or for machines")
    worker_timeout_s: Annotated[float, Field(ge=5, le=3600)] = Field(
        default=30.0,
        description="seconds without a sign of life after which a worker is replaced, where there are several",
    )
    access_log: bool = Field(default=False, description="log a line per request, without what was sent")


def read_settings(environ: Mapping[str, str], argv: Sequence[str]) -> Settings:
    """The settings from the environment and the command line.

    Raises:
        InvalidSettings: An unknown variable, or a value that a setting cannot have.
        SystemExit: `--help`, or a flag that does not exist.
    """
    _refuse_unknown_variables(environ)
    variables = {
        name: value
        for name in Settings.model_fields
        if (value := environ.get(f"{PREFIX}{name.upper()}"))  # an empty one counts as not set, as compose files have it
    }
    flags = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    try:
        settings = Settings.model_validate({**variables, **flags})
    except ValidationError as error:
        raise InvalidSettings("; ".join(_sentence(problem, flags) for problem in error.errors())) from error
    if not settings.models_dir.is_dir():
        raise InvalidSettings(
            f"models_dir: {shown(str(settings.models_dir))} is not a directory (looked from {Path.cwd()}); "
            f"make it, or set {PREFIX}MODELS_DIR to where the models are"
        )
    return settings


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0.0)[0]
            raise InvalidSettings(f"there is no setting {variable}; did you mean {nearest}? --help lists all")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve the models in a directory over HTTP: denoise, encode, decode, anomaly. API page: /docs",
        epilog=f"Every flag is also an environment variable: --max-pixels is {PREFIX}MAX_PIXELS. Flags win. "
        "To put a folder of images into a collection: python -m service index --help",
    )
    for name, field in Settings.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else None
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="|".join(choices) if choices else name.rsplit("_", 1)[-1].upper(),
            help=f"{field.description} (default {_plain(field.default)})".replace("%", "%%"),
        )
    return parser


def _plain(default: object) -> object:
    return default.get_secret_value() if isinstance(default, SecretStr) else default


def _sentence(problem: ErrorDetails, flags: Mapping[str, str]) -> str:
    name = str(problem["loc"][0])
    where = f"--{name.replace('_', '-')}" if name in flags else f"{PREFIX}{name.upper()}"
    found = "not usable" if name in _SECRET else shown(problem["input"])
    return f"{where} is {found}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
