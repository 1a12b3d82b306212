"""What a handle on a sandbox knows without asking."""

from __future__ import annotations

import os

from .results import SandboxInfo


class Handle:
    """A sandbox that was launched by this process, or by somebody else."""

    def __init__(self, info: SandboxInfo, ours: bool) -> None:
        self._owner = os.getpid() if ours else None
        #: What was known of it when the handle was made.
        self.info = info

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.id

    @property
    def name(self) -> str | None:
        """Its name."""
        return self.info.name

    def _is_ours(self) -> bool:
        """Whether we are to stop it; a child of a fork is not."""
        return self._owner == os.getpid()

    def _let_go(self) -> None:
        self._owner = None

    def __repr__(self) -> str:
        return f"Sandbox({self.name or self.id!r})"
