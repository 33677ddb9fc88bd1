"""The path of a request for images: find the model, read, decode, run, answer. Its route has admitted it before."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from service.api.responses import several_response, single_response
from service.api.schemas import ImageQuery
from service.api.service import Service, reserve, service_of
from service.api.shadow import Answered
from service.contract.manifest import Manifest, Task
from service.errors import RequestError, TaskNotOffered, VersionNotFound
from service.http.admission import slot_of
from service.http.body import read_files
from service.http.fetch import fetch_image
from service.http.instrument import has_notes, note
from service.http.negotiation import negotiate
from service.http.sent import header
from service.images.form import PLAIN, Form
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.models.aliases import Alias
from service.models.batcher import Batcher
from service.models.model import Model
from service.tasks.answer import Answer
from service.tasks.difference import COMPARED, verdicts_of
from service.tasks.work import FileWork, Work

log = logging.getLogger(__name__)

_SHORT = 2**16  # bytes that are digested in 50 microseconds: a thread would cost more

# file, manifest, limits, accept -> its way to an answer
MakeWork = Callable[[ImageFile, Manifest, InputLimits, str | None], FileWork]


async def answer_files(
    request: Request,
    query: ImageQuery,
    task: Task,
    make_work: MakeWork,
    *,
    several: Mapping[str, str | None],
    beside: str | None = None,
) -> Response:
    """Run every file of a request through one task.

    Args:
        request: With the files in its body.
        query: Which model.
        task: Its task.
        make_work: Makes the work on one file.
        several: What an answer to several files can be, best first, and the Accept that each file then has.
        beside: Name of a form field with one more file, which `make_work` gets as a keyword.

    Raises:
        RequestError: The request fails as a whole. Of several files, each has its own problem in the answer.
    """
    service, accept = service_of(request), header(request.scope, b"accept")
    model = await service.registry.find(task, query.model, query.version)
    alias = None if query.model is None else _alias_of(service, task, query.model)
    sent = await read_image_files(request, query.form, query.image, beside=beside)
    files = sent
    if beside is not None:
        files = [file for file in sent if file.field == "file"]
        if (other := next((file for file in sent if file.field == beside), None)) is not None:
            make_work = partial(make_work, **{other.field: other})
    if query.model is None and query.version is None:
        is_colour = any(file.header.is_colour for file in files)
        model = service.registry.snapshot.default_among(task, model, is_colour=is_colour)
    elif alias is not None:
        model = await _choose(service, task, alias, model, files)
    batcher = model.batcher_by_task[task]
    kind = negotiate(accept, list(several)) if len(files) > 1 else ""
    each_accept = several[kind] if kind else accept

    def make_works(model: Model) -> list[FileWork]:
        return [make_work(file, model.manifest, service.limits, each_accept) for file in files]

    works = make_works(model)
    if not kind:

        async def make() -> Answer:
            await reserve(request, works[0].cost(files, batcher))
            return await works[0].run(batcher)

        contents = [file.data for file in sent]
        answer = await service.answers.get_or_make(make, contents, model, task, query, accept)
        if alias is not None and alias.shadow is not None:
            service.shadows.offer(alias, Answered(task, files, [answer], make_works))
        if task == "anomaly":
            _note_verdicts(request, [answer])
        return single_response(answer, model.label)
    await reserve(request, works[0].cost(files, batcher))
    results = await _run_each(works, batcher)
    for result in results:
        if isinstance(result, RequestError):
            service.metrics.meters.failed(result.code)
    if task == "anomaly":
        _note_verdicts(request, results)
    if alias is not None and alias.shadow is not None:
        service.shadows.offer(alias, Answered(task, files, results, make_works))
    names = [file.name for file in files]
    return await asyncio.to_thread(several_response, results, kind, model.label, names)


async def read_image_files(
    request: Request, form: Form = PLAIN, image: str | None = None, *, beside: str | None = None
) -> list[ImageFile]:
    """Return the image and NPY files of a request, counted for its place in the queue. Its deadline runs from here.

    Args:
        request: With the files in its body.
        form: How it says their values are laid out.
        image: Address of the one file, if that is not in the body.
        beside: Name of one more field that a form may have, whose file is among those returned.

    Raises:
        RequestError: The body cannot be read, or its images do not fit into the queue.
    """
    service = service_of(request)
    limits = service.limits
    if image is not None:
        sent = [await fetch_image(request, service.settings, image)]
    else:
        sent = await read_files(request, service.settings, max_files=limits.max_images, beside=beside)
    files = [
        ImageFile.of(part.content, form if part.name == "file" else PLAIN, part.filename, part.name) for part in sent
    ]
    if has_notes(request.scope):
        note(request.scope, pixels=sum(file.header.pixels or 0 for file in files) or None)
    images = [min(file.header.images, limits.max_images) for file in files if file.field == "file"]
    slot_of(request).start(request, sum(images))
    return files


def _note_verdicts(request: Request, results: Sequence[Answer | RequestError]) -> None:
    """Tell the access log what was said of the images: one verdict, or how many there are of each."""
    if has_notes(request.scope):
        answers = [result for result in results if isinstance(result, Answer)]
        said = Counter(found["verdict"] for answer in answers for found in verdicts_of(answer))
        text = ", ".join(f"{count} {verdict}" for verdict, count in sorted(said.items()))
        note(request.scope, verdict=text if said.total() > 1 else next(iter(said), None))


def _alias_of(service: Service, task: Task, model: str) -> Alias | None:
    """Return the alias whose candidate and shadow a request may meet."""
    return service.registry.alias(model) if "@" in model and task in COMPARED else None


async def _choose(service: Service, task: Task, alias: Alias, model: Model, files: Sequence[ImageFile]) -> Model:
    """Return who answers these files: `model`, or the candidate of the alias for its share of them."""
    if alias.candidate is None:
        return model
    contents = [file.data for file in files]
    is_small = sum(map(len, contents)) <= _SHORT
    chooses = alias.chooses_candidate
    is_chosen = chooses(contents) if is_small else await asyncio.to_thread(chooses, contents)
    if is_chosen:
        try:
            model = await service.registry.find(task, alias.model, alias.candidate)
        except (VersionNotFound, TaskNotOffered) as error:  # the line goes on with the version that is known to work
            log.warning("the candidate of %s@%s does not answer: %s", alias.model, alias.name, error)
            is_chosen = False
    role = "candidate" if is_chosen else "version"
    service.metrics.meters.count("hourglass_alias_requests", alias.model, alias.name, role)
    return model


async def _run_each(works: Sequence[FileWork], batcher: Batcher) -> list[Answer | RequestError]:
    """Return the answer or problem of every file. All start at once, so that small ones share a batch."""
    if works[0].is_tiled:  # so that one picture at a time is held
        return [await _answer_of(work, batcher) for work in works]
    return list(await asyncio.gather(*(_answer_of(work, batcher) for work in works)))


async def _answer_of(work: Work, batcher: Batcher) -> Answer | RequestError:
    try:
        return await work.run(batcher)
    except RequestError as error:
        return error
