"""Work for a pool of processes, which import no more than this."""

import os


def square(number):
    """3 kills its worker."""
    if number == 3:
        os._exit(1)
    return number**2
