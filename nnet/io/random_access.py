"""Tables that are asked for keys, in any order or theirs (Kaldi util/kaldi-table-inl.h)."""

import logging
from typing import Any

from nnet.errors import NgtrainError
from nnet.io.holders import TOKEN
from nnet.io.losses import Losses
from nnet.io.streams import CHUNK, open_input
from nnet.io.tables import (
    READ_OPTIONS,
    ClosingContext,
    ScriptReader,
    Specifier,
    archive_entries,
    parse_specifier,
    read_script,
    sequential_table,
)
from nnet.io.tokens import Holder

log = logging.getLogger("ngtrain")


def random_access_table(rspecifier: str, holder: Holder) -> "RandomAccessTable":
    """Open a table to be asked for keys.

    An archive is read as far as needed, and everything read is kept unless the options allow to
    drop it: `o` each key is asked for once; `s` the archive is sorted, so that a missing key is
    known without reading on; `s,cs` it is also asked in sorted order, so that nothing is kept.

    Raises:
        NgtrainError: no such file or not an rspecifier; later, an entry cannot be read.
    """
    specifier = parse_specifier(rspecifier, READ_OPTIONS)
    if specifier.script is not None:
        return _RandomAccessScript(specifier, holder)
    return _RandomAccessArchive(specifier, holder)


class RandomAccessTable(ClosingContext):
    """A table with `key in table` and `table[key]`; a context manager.

    `table[key]` raises NgtrainError when there is no such key or it cannot be read.
    """

    def __init__(self, name: str):
        self.name = name  # the rspecifier, for messages

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise NgtrainError(self.why_not(key))
        return self._value(key)

    def why_not(self, key: str) -> str:
        """Say why a key is not in it."""
        return f"no key {key} in {self.name}"

    def __contains__(self, key: str) -> bool:
        raise NotImplementedError

    def get(self, key: str) -> Any | None:
        """Return the value of a key, or None if the table does not have it."""
        return self._value(key) if key in self else None

    def _value(self, key: str) -> Any:
        """Return the value of a key that is there."""
        raise NotImplementedError


class _RandomAccessScript(RandomAccessTable):
    def __init__(self, specifier: Specifier, holder: Holder):
        super().__init__(specifier.text)
        self._is_permissive = "p" in specifier.options
        script = read_script(specifier.script)
        self._files = dict(script)
        if len(self._files) < len(script):
            raise NgtrainError(f"{specifier.script}: the same key on two lines")
        self._reader = ScriptReader(holder)
        self._last: tuple[str, Any] = ("", None)
        self._unreadable = ("", "")  # the last one, which segments of a recording ask for again

    def why_not(self, key: str) -> str:
        unreadable, error = self._unreadable
        return error if key == unreadable else super().why_not(key)

    def __contains__(self, key: str) -> bool:
        if key not in self._files or key == self._unreadable[0]:
            return False
        if self._is_permissive:
            try:
                self._value(key)
            except NgtrainError as error:
                log.warning("passed over: %s", error)
                self._unreadable = (key, str(error))
                return False
        return True

    def _value(self, key: str) -> Any:
        if self._last[0] != key:
            self._last = (key, self._reader.read(key, self._files[key]))
        return self._last[1]

    def close(self) -> None:
        self._reader.close()


class _RandomAccessArchive(RandomAccessTable):
    def __init__(self, specifier: Specifier, holder: Holder):
        super().__init__(specifier.text)
        options = specifier.options
        self._is_sorted, self._once = "s" in options, "o" in options
        self._is_called_sorted = self._is_sorted and "cs" in options
        self._archive, self._at_end = specifier.archive, False
        self._stream = open_input(specifier.archive)
        self._entries = archive_entries(self._stream, holder, Losses() if "p" in options else None)
        self._kept: dict[str, Any] = {}
        self._last_read = ""
        self._last_asked = ""

    def __contains__(self, key: str) -> bool:
        if self._is_called_sorted:
            if key < self._last_asked:
                raise NgtrainError(
                    f"{self.name}: asked for {key} after {self._last_asked}, "
                    "but the option cs says that keys are asked for in sorted order"
                )
            if key > self._last_asked:
                self._kept = {kept: value for kept, value in self._kept.items() if kept >= key}
            self._last_asked = key
        while key not in self._kept:
            if self._is_sorted and self._last_read >= key:
                return False
            entry = next(self._entries, None)
            if entry is None:
                self._at_end = True
                return False
            self._keep(*entry, asked=key)
        return True

    def _keep(self, key: str, value: Any, asked: str) -> None:
        if self._is_sorted and key <= self._last_read:
            raise NgtrainError(
                f"{self.name}: the option s says that the archive is sorted, "
                f"but {key} comes after {self._last_read}"
            )
        if key in self._kept:
            raise NgtrainError(f"{self.name}: the key {key} comes twice")
        self._last_read = key
        if not self._is_called_sorted or key >= asked:
            self._kept[key] = value

    def _value(self, key: str) -> Any:
        return self._kept.pop(key) if self._once else self._kept[key]

    def __exit__(self, kind, error, traceback) -> None:
        """Close it; where all went well, the program that writes our input comes to its end, too.

        A pipeline would fail with its SIGPIPE, for nothing but entries that nobody asks for.
        """
        if kind is None and self._archive in ("", "-") and not self._at_end:
            while self._stream.read(CHUNK):
                pass
        super().__exit__(kind, error, traceback)

    def close(self) -> None:
        self._entries.close()
        self._stream.close()


def mapped_table(rspecifier: str, map_rspecifier: str, holder: Holder) -> RandomAccessTable:
    """Open a table by speaker to be asked by utterance (RandomAccessTableReaderMapped).

    The map is a table from utterance to speaker, such as `ark:data/train/utt2spk`; without it, the
    table itself is by utterance.
    """
    table = random_access_table(rspecifier, holder)
    return _MappedTable(table, map_rspecifier) if map_rspecifier else table


class _MappedTable(RandomAccessTable):
    def __init__(self, table: RandomAccessTable, map_rspecifier: str):
        super().__init__(table.name)
        self._table = table
        self._map_name = map_rspecifier
        with sequential_table(map_rspecifier, TOKEN) as entries:
            self._map = dict(entries)

    def _mapped(self, key: str) -> str:
        if key not in self._map:
            raise NgtrainError(f"no key {key} in {self._map_name}")
        return self._map[key]

    def __contains__(self, key: str) -> bool:
        return self._mapped(key) in self._table

    def _value(self, key: str) -> Any:
        return self._table[self._mapped(key)]

    def close(self) -> None:
        self._table.close()
