from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.api.openapi import BINARY, MARKDOWN, NOT_MODIFIED, problems, success
from service.api.schemas import ModelSummary, VersionQuery
from service.api.service import find_version, service_of
from service.contract.manifest import TASKS, Manifest
from service.errors import AliasNotFound, InvalidParameter, ModelFileNotFound, ModelNotFound, VersionNotFound
from service.http.encoding import write_json
from service.http.etag import conditional
from service.media_types import JSON_TYPE
from service.models.snapshot import Snapshot

router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "",
    operation_id="list_models",
    summary="List the live models",
    response_class=Response,
    responses={
        **success("One entry per model, by name.", model=list[ModelSummary], headers=["ETag"]),
        **NOT_MODIFIED,
        **problems(),
    },
)
async def list_models(request: Request) -> Response:
    """List the newest live version of every model, with its tasks, input and figures."""
    service = service_of(request)
    snapshot = service.registry.snapshot

    def make() -> bytes:
        models = [model for _, model in sorted(snapshot.model_by_name.items())]
        return write_json([_summary(snapshot, model.manifest).model_dump(mode="json") for model in models])

    page = service.pages.get("/models", snapshot, make)
    return conditional(request, Response(page.content, media_type=JSON_TYPE), tag=page.tag)


@router.get(
    "/{name}",
    operation_id="get_model",
    summary="Get the manifest of a model",
    response_class=Response,
    responses={
        **success(
            "The manifest: contract, provenance, figures and limits.",
            model=Manifest,
            headers=["X-Model", "ETag"],
        ),
        **NOT_MODIFIED,
        **problems(ModelNotFound, VersionNotFound, AliasNotFound, InvalidParameter),
    },
)
async def get_model(request: Request, name: str, query: Annotated[VersionQuery, Query()]) -> Response:
    """Return the manifest of a model version: tensors, input, figures, calibration, provenance."""
    model = await find_version(request, name, query.version)
    page = service_of(request).pages.get(
        f"/models/{model.label}", model.manifest, lambda: write_json(model.manifest.model_dump(mode="json"))
    )
    headers = {"X-Model": model.label}
    return conditional(request, Response(page.content, media_type=JSON_TYPE, headers=headers), tag=page.tag)


@router.get(
    "/{name}/card",
    operation_id="get_model_card",
    summary="Get the card of a model",
    response_class=Response,
    responses={
        **success("The card, as Markdown.", MARKDOWN, headers=["X-Model", "ETag"]),
        **NOT_MODIFIED,
        **problems(ModelNotFound, VersionNotFound, AliasNotFound, ModelFileNotFound, InvalidParameter),
    },
)
async def get_card(request: Request, name: str, query: Annotated[VersionQuery, Query()]) -> Response:
    """Return the model card: purpose, figures with baselines, limits, and how to reproduce it."""
    return await _file_of(request, name, query.version, "README.md", "text/markdown; charset=utf-8")


@router.get(
    "/{name}/preview",
    operation_id="get_model_preview",
    summary="Get the preview picture of a model",
    response_class=Response,
    responses={
        **success("The picture.", {"image/png": {"schema": BINARY}}, headers=["X-Model", "ETag"]),
        **NOT_MODIFIED,
        **problems(ModelNotFound, VersionNotFound, AliasNotFound, ModelFileNotFound, InvalidParameter),
    },
)
async def get_preview(request: Request, name: str, query: Annotated[VersionQuery, Query()]) -> Response:
    """Return the picture of the card: held-out images and the results of the model."""
    return await _file_of(request, name, query.version, "preview.png", "image/png")


async def _file_of(request: Request, name: str, version: int | None, file: str, media_type: str) -> Response:
    service, model = service_of(request), await find_version(request, name, version)
    cached = service.pages.find(f"/models/{model.label}/{file}", model)
    if cached is None:
        content = await service.registry.read_file(model, file)
        if content is not None:  # a missing file is remembered, too: a version never changes
            cached = service.pages.get(f"/models/{model.label}/{file}", model, lambda: content)
    if cached is None or not cached.content:
        raise ModelFileNotFound(f"model {model.label} has no {file}")
    headers = {"X-Model": model.label, "X-Content-Type-Options": "nosniff"}
    return conditional(request, Response(cached.content, media_type=media_type, headers=headers), tag=cached.tag)


def _summary(snapshot: Snapshot, manifest: Manifest) -> ModelSummary:
    def answers_by_default(task: str) -> bool:
        default = next((snapshot.default_for(t) for t in TASKS if t == task), None)
        return default is not None and default.manifest.name == manifest.name

    return ModelSummary(
        name=manifest.name,
        version=manifest.version,
        versions=list(snapshot.versions_by_name[manifest.name]),
        summary=manifest.summary,
        tasks=list(manifest.tasks),
        default_for=[task for task in manifest.tasks if answers_by_default(task)],
        input=manifest.input,
        latent_dim=manifest.latent.dim if manifest.latent else None,
        metrics=manifest.metrics,
    )
