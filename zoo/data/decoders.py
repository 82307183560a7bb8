"""The libraries that decode images are kept from printing: what is wrong with a file is said in one line, by us."""

import ctypes
import logging
from functools import cache


@cache
def silence_decoders() -> None:
    """Let libtiff, which Pillow calls, and Pillow itself print nothing of damaged files, in all of this process.

    Libtiff writes to file descriptor 2, past ``sys.stderr``, unless its two handlers are taken away. They are looked up
    among the libraries that Pillow's own has loaded; where that is linked so that they cannot be found, nothing is
    done. libjpeg, libpng and libwebp are silent as Pillow calls them.
    """
    from PIL import _imaging

    logging.getLogger("PIL.TiffImagePlugin").disabled = True  # without any logging set up, errors go to stderr
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (AttributeError, OSError):
        pass
