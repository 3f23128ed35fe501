"""Parts of the technician's file for tests, judged as the file is."""

from config.judge import judged
from config.model import Uplink


def uplink_of(**keys):
    """Give an uplink from its keys as one writes them."""
    return judged(Uplink, keys)
