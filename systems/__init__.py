"""What differs between the paper's system and others, behind one interface: a file, or a folder, for each system.

The name of the file is the name of the variant (`train.py --variant NAME`); its `SYSTEM` follows `base.System`. A new
system is one more file here. Outside this folder nothing asks which system runs.
"""

import importlib
import pkgutil

from storage.files import InputError


def names():
    """The variants that there are, sorted; nothing of theirs is imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


def system_of(variant):
    """The `base.System` of a variant.

    Raises:
        InputError: there is none of that name.
    """
    if variant not in names():
        raise InputError(f"variant {variant!r:.40} is none of {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{variant}").SYSTEM
