"""One file per family of URLs, and the table of them."""

from fastapi import APIRouter

from service.api.routes import (
    anomaly,
    collections,
    compress,
    decode,
    decompress,
    denoise,
    encode,
    enhance,
    feedback,
    generate,
    health,
    help_pages,
    interpolate,
    jobs,
    metrics,
    models,
    page,
    pages,
    search,
    v2,
)

ROUTERS: dict[str, APIRouter] = {
    "denoise": denoise.router,
    "enhance": enhance.router,
    "encode": encode.router,
    "decode": decode.router,
    "anomaly": anomaly.router,
    "generate": generate.router,
    "interpolate": interpolate.router,
    "compress": compress.router,
    "decompress": decompress.router,
    "collections": collections.router,
    "search": search.router,
    "jobs": jobs.router,
    "models": models.router,
    "feedback": feedback.router,
    "health": health.router,
    "help_pages": help_pages.router,
    "metrics": metrics.router,
    "page": page.router,
    "pages": pages.router,
    "v2": v2.router,
}
