"""Expected errors. The command line prints each in one line and exits with code 1."""

from __future__ import annotations


class SmartprofError(Exception):
    """Something the user can mend: says what was expected, what came and what to do next."""


class InputError(SmartprofError):
    """An option, a prompts file or a query that cannot be used."""


class ModelError(SmartprofError):
    """A model directory, file or architecture that cannot be loaded."""


class DeviceError(SmartprofError):
    """A device that is unknown, absent or out of memory."""


class ProfileError(SmartprofError):
    """A profile that is missing, damaged, or made for something else."""


class DomainError(ProfileError):
    """A query too far outside what was measured to be answered."""
