"""The settings of the service: every field is an environment variable `HOURGLASS_<NAME>` and a flag `--<name>`."""

import argparse
import base64
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from service.errors import InvalidSettings, shown, without_prefix

PREFIX = "HOURGLASS_"
MIB = 2**20
MIN_KEY_LENGTH = 16
_SECRET = {"api_keys", "write_keys", "read_keys", "collections_url", "webhook_secret"}  # never part of a message


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


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        size = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if text and (not text.startswith("whsec_") or not 24 <= size <= 64):
        raise ValueError(
            "it is whsec_ and 24 to 64 random bytes in base64; make one with `python -c 'import base64, secrets; "
            "print(base64.b64encode(secrets.token_bytes(32)).decode())'` and put whsec_ before it"
        )
    return secret


def _check_target(host: str) -> str:
    if not re.fullmatch(r"((\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", host):
        raise ValueError("a host is a name with or without a port, such as hooks.example:8443, or *.example")
    return host


def _need_secret(hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    secret: SecretStr | None = info.data.get("webhook_secret")
    if hosts and secret is not None and not secret.get_secret_value():
        raise ValueError(f"calls of webhooks are signed; set {PREFIX}WEBHOOK_SECRET, too")
    return hosts


class Settings(BaseModel):
    """Settings, created once in `main` and passed on. Flags override environment variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models_dir: Path = Field(
        default=Path("models"),
        description="Directory of models, `<name>/<version>/manifest.json`. It must exist and may be empty.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. `0.0.0.0` is every interface: put a proxy or a firewall in front.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="Port. 0 takes a free one, and the log names it."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="`cpu`, `cuda`, or `auto`: CUDA if onnxruntime offers it and it starts, otherwise the CPU. "
        "`cuda` refuses to start without it. `GET /health/ready` names the provider in use.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Threads inside one inference. One is fastest for small models."
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**31)] = Field(
        default=128 * MIB, description="Largest request body in bytes. Over it: 413, and the rest is not read."
    )
    max_json_bytes: Annotated[int, Field(ge=1024, le=2**26)] = Field(
        default=4 * MIB,
        description="Largest JSON in a request, in bytes. Over it: 413. Send more latents or larger tensors as NPY, "
        "or as the binary tensors of `/v2`. Small bodies, such as that of `/generate`, are limited "
        "to 64 KiB.",
    )
    max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = Field(
        default=32 * 1024, description="Largest request line and headers together, in bytes. Over it: 431."
    )
    header_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="Seconds for the headers of a request to arrive. Over it the connection is closed."
    )
    keep_alive_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=75.0,
        description="Seconds a connection stays open between two requests. Keep it above the idle timeout of a load "
        "balancer in front (usually 60 s): the side that closes first decides which requests are lost.",
    )
    body_timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=30.0,
        description="Seconds from the headers to the end of the body. Over it: 408. A client that does not read its "
        "answer is disconnected after the same time.",
    )
    max_pixels: Annotated[int, Field(ge=1, le=2**30)] = Field(
        default=25_000_000,
        description="Most pixels (width x height) of one image, of one array (N x height x width), or of all files "
        "of a form together. Checked before decoding, and again after padding to the model's size. A PNG or JPEG that "
        "runs in tiles (`/denoise` by a model of any size) may have five times as many.",
    )
    max_images: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Most images in one request, as files of a form or in an array, and most latents."
    )
    max_frames: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256,
        description="Most pages of a TIFF. Only the first page is used, like the first frame of an animation.",
    )
    max_batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64,
        description="Most images in one inference. Requests that queue while a batch runs form the next batch.",
    )
    max_batch_pixels: Annotated[int, Field(ge=0, le=2**30)] = Field(
        default=0,
        description="Most pixels (width x height) in one inference of several images. 0 is 2^16 on a CPU: 64 digits or "
        "one image of 256x256, as a core is no faster with more, and a megapixel takes 20 to 840 MiB. On a GPU it is "
        "as many as fit half of its memory at 2 KiB each, at most 2^22. From two megapixels on, tiles of several large "
        "images share a batch. A batch that does not fit after all is halved.",
    )
    max_gpu_bytes: Annotated[int, Field(ge=0, le=2**44)] = Field(
        default=0,
        description="Most bytes of the GPU's memory that each graph may take. 0: what is free when the service starts.",
    )
    old_versions: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2,
        description="Number of older model versions, requested with `version=`, that stay loaded in addition to "
        "the newest ones.",
    )
    max_cache_bytes: Annotated[int, Field(ge=0, le=2**40)] = Field(
        default=0,
        description="Bytes of the answer cache of each worker, in addition to `max_memory_bytes`. A request with one "
        "file is answered from it if file, model version, parameters and `Accept` are the same. 0 turns it off. "
        "`/metrics` counts hits. Scores from the cache do not count for drift.",
    )
    idle_model_s: Annotated[float, Field(ge=0, le=10**6)] = Field(
        default=0.0,
        description="Seconds without a request after which the graphs of a model are closed. The next request opens "
        "them again, within 200 ms for the shipped models. 0 keeps them open.",
    )
    watch_interval_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=2.0, description="Seconds between two scans of `models_dir` for new versions."
    )
    max_queue_images: Annotated[int, Field(ge=1, le=2**20)] = Field(
        default=256,
        description="Most images accepted and not yet answered, in each worker. Over it: 503 before the body is "
        "read. Set it to the images a worker processes during the longest wait you accept.",
    )
    max_memory_bytes: Annotated[int, Field(ge=2**20, le=2**44)] = Field(
        default=512 * MIB,
        description="Most bytes held by bodies, decoded images and answers together, in each worker. Over it: 503 "
        "before the body is read. A single request always fits.",
    )
    max_request_memory_bytes: Annotated[int, Field(ge=2**20, le=2**44)] = Field(
        default=1280 * MIB,
        description="Most memory that one request may be expected to need, in bytes: its file, decoder, values, result "
        "and answer. Over it: 413 before decoding. The default fits a container of 2 GiB; raise it with that.",
    )
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0,
        description="Seconds from the end of the request body to the answer. Over it: 504, and queued work of the "
        "request is dropped. Long work gets more: three times its expected CPU time, and its deadline restarts "
        "whenever a tile or a file is done.",
    )
    max_request_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=900.0,
        description="Most seconds from the end of the request body to the answer for long work that makes progress. "
        "Over it: 504. On a core that others use, such work takes several times its CPU time.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        default=1,
        description="Processes that answer on the port, each with its own models and queue. A worker that dies is "
        "replaced. 0 starts one per usable core; a CPU quota (cgroup) counts as fewer cores. The log "
        "and `GET /health/ready` report how cores, workers and threads fit.",
    )
    probe_memory_bytes: Annotated[int, Field(ge=256 * MIB, le=2**40)] = Field(
        default=2048 * MIB,
        description="Address space of the process that tests a new model version before it goes live. Starting it "
        "takes about 220 MB; a model needs about three times its size.",
    )
    probe_timeout_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=30,
        description="Seconds, of CPU time and on the clock, that testing a version may take. Over it the version is "
        "rejected.",
    )
    grace_s: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=20,
        description="Seconds that requests in flight get to finish after SIGTERM, SIGINT (Ctrl-C), SIGHUP or SIGQUIT.",
    )
    collections_url: Annotated[SecretStr, AfterValidator(_check_store)] = Field(
        default=SecretStr("sqlite:///collections/items.db"),
        description="Where collections are stored: `sqlite:///FOLDER/FILE` (`sqlite:////FOLDER/FILE` from the "
        "root), created on first use, or `postgresql://USER:PASSWORD@HOST/NAME` with pgvector and `pip "
        "install 'hourglass-service[postgres]'`. Never logged.",
    )
    max_collections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="Most collections. Over it: 409."
    )
    max_items: Annotated[int, Field(ge=1, le=10**8)] = Field(
        default=1_000_000,
        description="Most items in one collection. Over it: 409. The time of a search grows with the number of items.",
    )
    max_collections_bytes: Annotated[int, Field(ge=2**20, le=2**50)] = Field(
        default=16 * 2**30,
        description="Most bytes that all collections take in their database. Over it: 409; items can still be "
        "replaced and deleted.",
    )
    max_feedback_bytes: Annotated[int, Field(ge=0, le=2**50)] = Field(
        default=0,
        description="Most bytes of images sent to `POST /models/{name}/feedback`, over all models, in the "
        "database of the collections. 0 turns feedback off. Over it: 409.",
    )
    max_jobs: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=1000,
        description="Most jobs, waiting or ended, over all workers. Over it: 503. 0 turns jobs off, and `Prefer: "
        "respond-async` is ignored.",
    )
    max_jobs_bytes: Annotated[int, Field(ge=2**20, le=2**44)] = Field(
        default=1024 * MIB,
        description="Most bytes of the bodies and results of all jobs. They are stored with the collections. Over "
        "it: 503.",
    )
    job_keep_s: Annotated[float, Field(gt=0, le=30 * 86400)] = Field(
        default=3600.0, description="Seconds that a job and its result are kept after the job has ended."
    )
    job_lease_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=15.0, description="Seconds without a heartbeat after which another worker takes over a job."
    )
    job_timeout_s: Annotated[float, Field(gt=0, le=7 * 86400)] = Field(
        default=3600.0, description="Seconds that running a job may take. Long work gets more."
    )
    webhook_secret: Annotated[SecretStr, AfterValidator(_check_secret)] = Field(
        default=SecretStr(""),
        description="Key that signs webhook calls: `whsec_` and 24 to 64 random bytes in base64. Never logged.",
    )
    webhook_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_check_target)], ...], BeforeValidator(_split), AfterValidator(_need_secret)
    ] = Field(
        default=(),
        description="Hosts that `webhook=` may name, separated by commas: `hooks.example`, `hooks.example:8443`, or "
        "`*.example` for all below one. Only a host named itself may have a private address. Empty: none.",
    )
    image_hosts: Annotated[tuple[Annotated[str, AfterValidator(_check_target)], ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Hosts that `image=` may name, written as in `webhook_hosts`. The service fetches images from them "
        "with its own network access, at most `max_body_bytes` within `body_timeout_s`, and follows no redirects. Only "
        "a host named itself may have a private address. Empty: none.",
    )
    api_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Keys with all rights, separated by commas, of 16 or more characters each. A request sends one "
        "as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Empty: no key is needed. Health, the page, "
        "the API page, `/help` and `/problems` stay open. Other users of a machine can read flags, so "
        "prefer the variable.",
    )
    write_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = (
        Field(
            default=(),
            description="Keys that may read, and put and delete items; they may not administer models (load, unload, "
            "aliases).",
        )
    )
    read_keys: Annotated[tuple[Annotated[SecretStr, AfterValidator(_check_key)], ...], BeforeValidator(_split)] = Field(
        default=(), description="Keys that may only read and run models."
    )
    allowed_hosts: Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Host names that requests may use, separated by commas; `*.example` allows all names below one, "
        "`*` every name. Any other name: 421. Addresses and names without a dot always pass. Empty: "
        "every name; but on a loopback address without keys no name, which stops DNS rebinding. Set it "
        "if a proxy on the same machine forwards its own name.",
    )
    cors_origins: Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Web sites whose pages may call the service from a browser, such as `https://lab.example`, "
        "separated by commas; `*` allows every site. Empty: none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="`text` for people, or `json`: one object per line."
    )
    worker_timeout_s: Annotated[float, Field(ge=5, le=3600)] = Field(
        default=30.0,
        description="Seconds without a heartbeat after which a hanging worker is killed and replaced, if there are "
        "several.",
    )
    access_log: bool = Field(
        default=False,
        description="Log a line for every request: method, route, status, duration, request id, model, pixels, verdict "
        "and name of the key, without any content.",
    )


def read_settings(environ: Mapping[str, str], argv: Sequence[str]) -> Settings:
    """Return the settings from the environment and the command line.

    Raises:
        InvalidSettings: A variable is unknown, or a value is invalid.
        SystemExit: The command line has `--help` or an unknown flag.
    """
    _refuse_unknown_variables(environ)
    variables = {
        name: value
        for name in Settings.model_fields
        if (value := environ.get(f"{PREFIX}{name.upper()}"))  # empty means not set, as in compose files
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
        description="Serve the models of a directory over HTTP. The API page is at /docs, the manual at /help.",
        epilog=f"Every flag is also an environment variable: --max-pixels is {PREFIX}MAX_PIXELS. Flags win. "
        "To put a folder of images into a collection: python -m service index --help. To remove old versions of "
        "models: python -m service prune --help",
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
    message = without_prefix(problem["msg"])
    return f"{where} is {found}: {message[0].lower()}{message[1:]}"
