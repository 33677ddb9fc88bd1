"""The functions of zlib from the fastest installed library: `from service.images.deflate import zlib`."""

try:
    from isal import isal_zlib as zlib
except ImportError:  # it has no wheel for this machine
    import zlib  # type: ignore[no-redef]  # the same functions

__all__ = ["zlib"]
