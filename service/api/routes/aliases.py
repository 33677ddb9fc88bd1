from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError

from service.api.alias_schemas import AliasAnswer, AliasBody, AliasesAnswer
from service.api.aliases import read_aliases
from service.api.openapi import NO_CONTENT, problems, success
from service.api.openapi_bodies import json_body
from service.api.responses import json_response
from service.api.route import AdmittedRoute
from service.api.routes.common import STORE_ERRORS, ModelName
from service.api.service import Service, service_of
from service.collections.store.aliases import AliasTable
from service.errors import (
    AliasNotFound,
    BodyTooLarge,
    InvalidParameter,
    MalformedBody,
    ModelNotFound,
    NoFormerVersion,
    NotReady,
    RequestError,
    TooManyAliases,
    VersionNotFound,
)
from service.http.admission import slot_of
from service.http.body import ORDER_CAP, complaint, parse_json, read_body
from service.models.aliases import ALIAS_PATTERN, Alias, no_alias

router = APIRouter(prefix="/models/{name}/aliases", tags=["aliases"], route_class=AdmittedRoute)
T = TypeVar("T")
AliasName = Annotated[str, Path(pattern=ALIAS_PATTERN, description="Name of the alias")]
_ERRORS: tuple[type[RequestError], ...] = (*STORE_ERRORS, ModelNotFound, NotReady)


@router.get(
    "",
    operation_id="list_aliases",
    summary="The aliases of a model",
    response_class=Response,
    responses={**success("By name.", model=AliasesAnswer), **problems(*_ERRORS)},
)
async def list_aliases(request: Request, name: ModelName) -> Response:
    """List the names that `model=<model>@<alias>` may use."""
    service = service_of(request)
    await _check_model(service, name)
    aliases = await _of_model(service, name)
    return json_response({"model": name, "aliases": [_describe(alias) for alias in aliases]})


@router.get(
    "/{alias}",
    operation_id="get_alias",
    summary="What an alias means",
    response_class=Response,
    responses={**success("The alias.", model=AliasAnswer), **problems(*_ERRORS, AliasNotFound)},
)
async def get_alias(request: Request, name: ModelName, alias: AliasName) -> Response:
    """Say which version an alias means, and which ones are its candidate and its shadow."""
    service = service_of(request)
    await _check_model(service, name)
    _need_store(service, name, alias)
    return json_response(_describe(await service.store.run(lambda store: store.aliases.get(name, alias))))


@router.put(
    "/{alias}",
    operation_id="put_alias",
    summary="Let an alias mean a version",
    status_code=200,
    response_class=Response,
    openapi_extra=json_body(AliasBody),
    responses={
        **success("It means another version now.", model=AliasAnswer),
        201: success("The alias is new.", model=AliasAnswer)[200],
        **problems(*_ERRORS, MalformedBody, BodyTooLarge, VersionNotFound, TooManyAliases),
    },
)
async def put_alias(request: Request, name: ModelName, alias: AliasName) -> Response:
    """Make an alias, or change it as a whole: version, candidate with its share, and shadow.

    All versions are loaded before the alias changes. Other workers follow within `watch_interval_s`.
    """
    service = service_of(request)
    body = _parse(await read_body(request, ORDER_CAP))
    slot_of(request).start(request, 1)
    wanted = Alias(name, alias, body.version, body.candidate, body.share or 0.0, body.shadow)
    for version in sorted(wanted.versions):
        await service.registry.find_version(service.registry.snapshot, name, version)
    kept, is_new = await _change(service, lambda table: table.put(wanted))
    return json_response(_describe(kept), status=201 if is_new else 200)


@router.post(
    "/{alias}/rollback",
    operation_id="roll_back_alias",
    summary="Take back the last change of version",
    response_class=Response,
    responses={
        **success("The alias as it is now.", model=AliasAnswer),
        **problems(*_ERRORS, AliasNotFound, NoFormerVersion),
    },
)
async def roll_back_alias(request: Request, name: ModelName, alias: AliasName) -> Response:
    """Remove the candidate. Without a candidate, return to the previous version.

    Afterwards one version answers all requests. A second call is rejected and changes nothing.
    """
    service = service_of(request)
    slot_of(request).start(request, 1)
    _need_store(service, name, alias)
    return json_response(_describe(await _change(service, lambda table: table.roll_back(name, alias))))


@router.delete(
    "/{alias}",
    operation_id="delete_alias",
    summary="Delete an alias",
    status_code=204,
    response_class=Response,
    responses={**NO_CONTENT, **problems(*STORE_ERRORS, AliasNotFound)},
)
async def delete_alias(request: Request, name: ModelName, alias: AliasName) -> Response:
    """Delete an alias. The versions that it named stay; they may be pruned from now on."""
    service = service_of(request)
    _need_store(service, name, alias)
    await _change(service, lambda table: table.remove(name, alias))
    return Response(status_code=204)


async def _check_model(service: Service, name: str) -> None:
    registry = service.registry
    if name not in registry.snapshot.versions_by_name:
        await registry.find_version(registry.snapshot, name, None)


def _need_store(service: Service, name: str, alias: str) -> None:
    """Raise `AliasNotFound` where no database is there to have any: none is made for a question."""
    if not service.has_store:
        raise no_alias(name, alias, [])


async def _of_model(service: Service, name: str) -> list[Alias]:
    if not service.has_store:
        return []
    return [alias for alias in await service.store.run(lambda store: store.aliases.all()) if alias.model == name]


async def _change(service: Service, change: Callable[[AliasTable], T]) -> T:
    """Return what the table says to a change, once this worker heeds it."""
    said = await service.store.write(lambda store: change(store.aliases))
    await read_aliases(service)
    return said


def _parse(body: bytes) -> AliasBody:
    try:
        return AliasBody.model_validate(parse_json(body))
    except ValidationError as error:
        members = ", ".join(AliasBody.model_fields)
        raise InvalidParameter(f"{complaint(error)}; the body is an object of {members}") from error


def _describe(alias: Alias) -> dict[str, object]:
    return {"model": alias.model, "alias": alias.name} | {
        name: getattr(alias, name) for name in ("version", "candidate", "share", "shadow", "former", "updated")
    }
