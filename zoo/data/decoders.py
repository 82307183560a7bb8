"""Silencing the libraries that decode images: the zoo itself reports a damaged file, in one line."""

import ctypes
import logging
from functools import cache


@cache
def silence_decoders() -> None:
    """Keep Pillow, and libtiff, which it calls, from printing messages about damaged files, in this whole process.

    Libtiff writes to file descriptor 2, bypassing ``sys.stderr``, unless its error and warning handlers are removed.
    The functions for this are looked up through Pillow's extension module; if its linking hides them, nothing is done.
    libjpeg, libpng and libwebp print nothing in the way that Pillow calls them.
    """
    from PIL import _imaging

    logging.getLogger("PIL.TiffImagePlugin").disabled = True  # unconfigured logging writes errors to stderr
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (AttributeError, OSError):
        pass
