"""The `lampyr` program: where it is, and what it is asked directly. Copies and
terminals are its own: it writes nothing outside of what was asked for, whatever
a guest sends, and knows how to treat a terminal."""

from __future__ import annotations

import os
import shutil
from typing import Union

from .errors import ConnectionFailed, LampyrError, UsageError

Path = Union[str, "os.PathLike[str]"]


class Binary:
    """The program, and the state directory that it is to use."""

    def __init__(self, path: Path | None, home: Path | None) -> None:
        self._path = None if path is None else os.fspath(path)
        self._home = None if home is None else os.path.abspath(home)

    def argv(self, *args: str) -> list[str]:
        """A command line of it. Raises `ConnectionFailed` where it is not found."""
        asked = self._path or os.environ.get("LAMPYR_BIN") or "lampyr"
        found = shutil.which(asked)
        if found is None:
            hint = "put lampyr on the PATH, or its path into LAMPYR_BIN"
            raise ConnectionFailed(f"there is no program '{asked}'", hint=hint)
        return [os.path.abspath(found), *args]

    def env(self) -> dict[str, str]:
        """Its environment."""
        return {**os.environ, **({} if self._home is None else {"LAMPYR_HOME": self._home})}

    def copy_in(self, sandbox: str, host: Path, guest: str) -> list[str]:
        return self.argv("cp", _here(host), f"{sandbox}:{guest}")

    def copy_out(self, sandbox: str, guest: str, host: Path) -> list[str]:
        return self.argv("cp", f"{sandbox}:{guest}", _here(host))

    def terminal(self, sandbox: str, shell: str) -> list[str]:
        return self.argv("exec", "--pty", sandbox, "--", shell)


def _here(host: Path) -> str:
    """A path that cannot be taken for one in a sandbox. A `/` at its end says
    that it is a directory."""
    path = os.fspath(host)
    absolute = os.path.abspath(path)
    return absolute + "/" if path.endswith("/") and absolute != "/" else absolute


def complaint(code: int, stderr: bytes) -> LampyrError:
    """What the program says when it fails: `error: …`, and `hint: …`."""
    said: dict[str, str] = {}
    for line in stderr.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(": ")
        said.setdefault(key, value)
    message = said.get("error") or f"lampyr ended with exit code {code}"
    failure = UsageError if code == 2 else ConnectionFailed
    return failure(message, hint=said.get("hint"))
