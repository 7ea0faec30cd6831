"""`safe_open`: a checkpoint, opened."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from . import _bridge, _dtypes, _filters, _frameworks, _loading, _progress, _stats
from ._bridge import JavaCheckpoint, JavaOwner, call
from ._catalogue import Catalogue
from ._errors import SafetensorError, about
from ._options import BackendCandidate, Options, Progress
from ._slices import TensorSlice

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch
    from typing_extensions import Self

    from ._distributed import Group

    PathLike: TypeAlias = str | os.PathLike[str]


# A warning names no more tensors than a person reads.
_NAMED = 5


class safe_open(JavaOwner):  # noqa: N801  (the name is safetensors')
    """Opens one or more safetensors files together, and loads their tensors.

    Parameters
    ----------
    filename : path, or iterable of paths
        Files, folders of them, and ``*.safetensors.index.json``. A folder that holds an index is read
        as the index says. In any order: files are taken by their names. Never changed.
    framework : {"pt", "np"}
        torch tensors, or numpy arrays (on the host only; bfloat16 and fp8 need ml_dtypes). safetensors'
        longer names for them are taken too: "torch", "pytorch", "numpy".
    device : int, str or torch.device, default "cpu"
        Where the tensors go: ``N`` and ``"cuda:N"`` are GPUs, ``"cuda"`` is the current one.
    process_group : torch.distributed.ProcessGroup, optional
        Ranks that load the same tensors together: each reads its part, collectives bring the rest.
        All of them have to make the same calls, and take all tensors.
    buffer_size : int, optional
        Bytes; a hard cap on the slabs of one pass that no tensor refers to. By default at most three times
        the largest tensor or 1 GiB, whichever is more, and never more than `max_free_mem_usage` of
        what is free. A tensor that is larger than the cap gets storage of its own.
    chunk_size : int, optional
        Bytes of one read, up to 64 MiB, rounded up to a multiple of 4 KiB; 4 MiB by default.
    concurrency : int, optional
        Threads that read, up to 256; 0 or None: as many as the machine is good for, 16 at most.
    io_depth : int, optional
        Reads and copies under way at once, up to 1024; by default two for each thread, never less than
        one for each.
    max_free_mem_usage : float, optional
        The part of the device's free memory that the default of `buffer_size` may take: more than 0,
        at most 1; 0.5 by default.
    load_now : bool, default True
        True: staging buffers for a GPU are made ready while headers are read. Reading starts when the
        first tensor of `tensors()` is asked for, in either case.
    copy : bool, default True
        True: tensors own storage of exactly their size. False: tensors are views of slabs, valid for
        as long as anybody holds them; a slab is freed with the last of its views.
    backend : Backend, BackendPolicy, str, or list of them, optional
        Ways of reading, the first that can serve is taken; `stats()` says which, and why others were
        not. None chooses for each file: past the page cache, unless it holds most of the file already.
    tensor_filter : list of str, optional
        Names or patterns; only tensors that one of them matches exist for this object, and are read.
    tensor_name_match_mode : {"glob", "exact", "regex"}
        How `tensor_filter` is to be read. Whole names are matched, and case counts.
    progress : bool or callable, default False
        True shows a tqdm bar for each pass over `tensors()`; a callable gets ``(bytes_done,
        bytes_total)``, never going down and ending at the total.

    Attributes
    ----------
    filename : list of str
        The files, in the order in which they are read.
    framework : str
        As it was given.
    device : torch.device, or "cpu" for numpy
        Where the tensors go.
    total_tensor_size : int
        Bytes of the tensors that `tensors()` yields.
    buffer_size : int
        Bytes; the cap on slabs, as given or as it would be chosen now.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        A path is missing, unreadable, or no regular file; a folder holds no safetensors file.
    SafetensorError
        A file is no safetensors file, or not a whole one.
    TypeError, ValueError
        An argument, by its name, with what is allowed.
    RuntimeError
        No CUDA, no such device; none of the backends can read a file; Java missing; the process was
        forked after the engine's start.

    Warns
    -----
    UserWarning
        Two files hold tensors of one name.
    RuntimeWarning
        When loading starts: tensors are larger than `buffer_size`.

    Notes
    -----
    `buffer_size`, `chunk_size`, `concurrency`, `io_depth`, `max_free_mem_usage` and `backend` (names with
    commas between them), where they are None, come from the environment: INSTANTTENSOR_BUFFER_SIZE and
    so on. INSTANTTENSOR_DEBUG=1 logs `stats()` after each pass.

    A tensor on a GPU is ready for the stream that was current when it was yielded. Whoever uses it on
    another stream follows torch's rules for that (``wait_stream``, ``record_stream``).

    Source: the interfaces of InstantTensor 0.2.2 and safetensors 0.8.0.

    Examples
    --------
    >>> with safe_open("model.safetensors", framework="pt", device="cuda") as f:  # doctest: +SKIP
    ...     state = dict(f.tensors())
    """

    def __init__(
        self,
        filename: PathLike | Iterable[PathLike],
        framework: str,
        device: int | str | torch.device = "cpu",
        process_group: Any = None,
        *,
        buffer_size: int | None = None,
        chunk_size: int | None = None,
        concurrency: int | None = None,
        io_depth: int | None = None,
        max_free_mem_usage: float | None = None,
        load_now: bool = True,
        copy: bool = True,
        backend: BackendCandidate | Iterable[BackendCandidate] | None = None,
        tensor_filter: Sequence[str] | None = None,
        tensor_name_match_mode: Literal["glob", "exact", "regex"] = "glob",
        progress: Progress = False,
    ) -> None:
        started = time.perf_counter()
        self.java: Any = None
        self._decoding = threading.Lock()
        self._decoded: Catalogue | None = None
        self._options = Options.resolve(
            buffer_size=buffer_size,
            chunk_size=chunk_size,
            concurrency=concurrency,
            io_depth=io_depth,
            max_free_mem_usage=max_free_mem_usage,
            backend=backend,
        )
        for name, value in (("load_now", load_now), ("copy", copy)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")
        _progress.check(progress)
        self._matches = _filters.matcher(tensor_filter, tensor_name_match_mode)
        paths = _paths(filename)
        self._framework = _frameworks.choose(framework, device)
        self.framework = framework
        self.device = self._framework.device
        self._copy = copy
        self._progress = progress
        self._loads: list[_loading.SlabLoad] = []
        self._group = self._join(process_group)
        try:
            java = self._open_together(paths, expected=self._numbers() if load_now else None)
            self.filename: list[str] = list(java.files())
            self.total_tensor_size = self._catalogue.total_bytes if self._matches else java.totalBytes()
            self._totals = _stats.Totals(time.perf_counter() - started)
            self._warn_of_duplicates(java)
        except BaseException:
            # A traceback that somebody keeps would keep the files open; a warning can be an error.
            self.close()
            raise

    def _join(self, process_group: Any) -> Group | None:
        if process_group is None:
            return None
        import torch

        from ._distributed import Group

        ordinal = self._framework.ordinal
        return Group(process_group, torch.device("cpu") if ordinal < 0 else torch.device("cuda", ordinal))

    @property
    def buffer_size(self) -> int:
        """Bytes of slabs that no tensor refers to, at most; without an argument or a variable, as it would
        be chosen now, from the largest tensor and the memory that is free."""
        java = self._open()
        return _loading.cap_bytes(java, self._catalogue.selected, self._numbers())

    @property
    def _catalogue(self) -> Catalogue:
        """The tensors, decoded when somebody asks: a load of all of them is started before that."""
        with self._decoding:
            if self._decoded is None:
                # Closing takes the lock too: it frees what is decoded here.
                self._decoded = Catalogue(self._open(), self._matches)
            return self._decoded

    def _open_together(self, paths: list[str], expected: Any) -> JavaCheckpoint:
        """Opens; where one rank of a group cannot, none does."""

        def open_() -> JavaCheckpoint:
            return _bridge.wait_open("\0".join(paths), "\0".join(self._options.backends), expected, owner=self)

        if self._group is None:
            return open_()
        return self._group.together(open_, "to open the checkpoint", lambda java: java.close())

    def _warn_of_duplicates(self, java: JavaCheckpoint) -> None:
        named_twice = list(java.duplicates())
        doubled = [name for name in named_twice if name in self._catalogue]
        if doubled:
            homes = " and ".join(java.homes(doubled[0]))
            more = f" (likewise: {len(doubled) - 1} more)" if len(doubled) > 1 else ""
            warnings.warn(
                f"tensor {doubled[0]!r} is in {homes}{more}: tensors() yields each of them, get_tensor() refuses",
                UserWarning,
                stacklevel=3,
            )

    def _open(self) -> JavaCheckpoint:
        """The Java checkpoint.

        Raises
        ------
        SafetensorError
            After `close()`.
        """
        _bridge.engine()
        java: JavaCheckpoint | None = self.java
        if java is None:
            raise SafetensorError("File is closed")
        return java

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # A copy would share what the first of both closes.
        raise TypeError("a safe_open can be neither copied nor pickled: open the checkpoint once more")

    def close(self) -> None:
        """Ends loads that are under way and closes the files. Tensors that were handed out stay valid.

        Safe to call again, and from another thread than the one that loads.
        """
        for load in list(getattr(self, "_loads", ())):
            load.close()
        if self.java is _bridge.LEFT_BEHIND:
            # A thread of the parent's may have held the lock; it does not exist here.
            return
        with self._decoding:
            super().close()

    def keys(self) -> list[str]:
        """Names of the tensors, in the order of their files and of their offsets there."""
        self._open()
        names = self._catalogue.names
        return [names[index] for index in self._catalogue.selected]

    def offset_keys(self) -> list[str]:
        """The same as `keys()`; of safetensors' two methods the one that keeps the order of offsets."""
        return self.keys()

    def __bool__(self) -> bool:
        # Also where it is empty, or closed: `if f: f.close()`.
        return True

    def __len__(self) -> int:
        self._open()
        return len(self._catalogue.selected)

    def __contains__(self, name: object) -> bool:
        self._open()
        return name in self._catalogue

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def metadata(self) -> dict[str, str] | None:
        """The files' ``__metadata__``, later files' entries over earlier ones'; None where none has any."""
        java = self._open()
        merged: dict[str, str] | None = None
        for number in range(len(self.filename)):
            flat = java.metadata(number)
            if flat is not None:
                texts = list(flat)
                merged = {**(merged or {}), **dict(zip(texts[0::2], texts[1::2]))}
        return merged

    def get_tensor_metadata(self, name: str) -> tuple[Any, Any]:
        """Element type and shape of a tensor, as it would be loaded.

        Returns
        -------
        (torch.dtype, torch.Size), or (numpy.dtype, tuple) with framework "np"

        Raises
        ------
        SafetensorError
            There is no such tensor, or more than one; its element type is not one of the framework's
            (a ValueError too); after `close()`.
        """
        self._open()
        index = self._catalogue.find(name)
        stored, shape = self._catalogue.dtypes[index], self._catalogue.shapes[index]
        with about(name):
            dtype = self._framework.dtype(stored)
            if isinstance(self._framework, _frameworks.Numpy):
                return dtype, shape
            import torch

            return dtype, torch.Size(_dtypes.view_shape(stored, shape))

    def tensors(self) -> Iterator[tuple[str, Any]]:
        """Loads all tensors, in the order of `keys()`. May be called any number of times.

        Yields
        ------
        (str, tensor)
            With ``copy=True`` it owns its storage, with ``copy=False`` it is a view of a slab. Either
            can be written to; the file stays as it is.

        Raises
        ------
        SafetensorError
            A tensor's element type is not one of the framework's (a ValueError too); after `close()`,
            also in the middle.
        OSError
            A file was truncated or changed since it was opened, or a read failed; with file, offset,
            expected and read bytes.
        torch.OutOfMemoryError
            The device has not the memory; with what was needed and what was free.
        """
        self._open()
        return self._tensors()

    def _tensors(self) -> Iterator[tuple[str, Any]]:
        load: _loading.SlabLoad | None = None
        reporter = _progress.Reporter(self._progress, self.total_tensor_size)
        try:
            load = self._start()
            self._loads.append(load)
            # Another thread may have closed the file before it knew of this load.
            self._open()
            catalogue = self._catalogue
            cap = int(list(load.alive().stats())[9])
            self._warn_of_oversize(cap)
            share = self._group.world if self._group is not None else 1
            yield from _loading.tensors(
                load,
                catalogue,
                catalogue.selected,
                self._framework,
                copy=self._copy,
                cap_bytes=cap,
                group=self._group,
                waiting=lambda staged: reporter.update(staged * share),
            )
            reporter.finish()
        finally:
            reporter.close()
            if load is not None:
                self._end(load)

    def _start(self) -> _loading.SlabLoad:
        java, group = self._open(), self._group
        if group is None and self._matches is None:
            return _loading.start_all(java, self._numbers())
        selected = self._catalogue.selected
        if group is None:
            return _loading.start(java, selected, self._numbers())
        group.require_same(self._catalogue)
        cap = group.together(
            lambda: _loading.cap_bytes(java, selected, self._numbers()), "to size its slabs", lambda _: None
        )
        # Slabs have to be cut alike everywhere, so the rank with the least memory decides.
        numbers = self._numbers(buffer_bytes=group.least([cap])[0], rank=group.rank, world=group.world)
        return group.together(
            lambda: _loading.start(java, selected, numbers), "to start loading", lambda load: load.close()
        )

    def _end(self, load: _loading.SlabLoad) -> None:
        if load in self._loads:
            self._loads.remove(load)
        java = load.java
        if java is not None and java is not _bridge.LEFT_BEHIND:
            self._totals.add(java)
            load.close()
            if _stats.debug_enabled() and self.java is not None:
                _stats.log_report(self.stats())

    def _warn_of_oversize(self, cap: int) -> None:
        catalogue = self._catalogue
        large = [index for index in catalogue.selected if catalogue.sizes[index] > cap]
        if large:
            names = [f"{catalogue.names[index]!r} ({catalogue.sizes[index]:,} bytes)" for index in large[:_NAMED]]
            if len(large) > _NAMED:
                names.append(f"{len(large) - _NAMED} more")
            warnings.warn(
                f"larger than buffer_size ({cap:,} bytes), so each gets storage of its own: {', '.join(names)}",
                RuntimeWarning,
                stacklevel=3,
            )

    def get_tensor(self, name: str) -> Any:
        """Loads one tensor, into storage of exactly its size.

        Raises
        ------
        SafetensorError
            There is no such tensor, or more than one; its element type is not one of the framework's
            (a ValueError too); after `close()`.
        OSError, torch.OutOfMemoryError
            As with `tensors()`.
        """
        self._open()
        return self._read([self._catalogue.find(name)])[0]

    def get_tensors(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Loads several tensors at once; all of them where no names are given.

        Returns
        -------
        dict
            By name, in the order asked for.

        Raises
        ------
        SafetensorError, OSError, torch.OutOfMemoryError
            As with `get_tensor()`.
        """
        self._open()
        if isinstance(names, str) or not isinstance(names, (Iterable, type(None))):
            raise TypeError(f"names: expected an iterable of str, got a single {type(names).__name__}")
        wanted = self.keys() if names is None else list(names)
        found = [self._catalogue.find(name) for name in wanted]
        return dict(zip(wanted, self._read(found)))

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor that is read when it is indexed, and then only the rows that are needed.

        Returns
        -------
        TensorSlice
            With ``get_shape()``, ``get_dtype()`` and indexes: ints, slices with positive steps, ``...``.

        Raises
        ------
        SafetensorError
            There is no such tensor, or more than one; after `close()`.

        Examples
        --------
        >>> with safe_open("model.safetensors", framework="pt") as f:  # doctest: +SKIP
        ...     rows = f.get_slice("model.embed_tokens.weight")[1000:2000]
        """
        self._open()
        index = self._catalogue.find(name)
        catalogue = self._catalogue
        return TensorSlice(
            name,
            catalogue.dtypes[index],
            catalogue.shapes[index],
            read_rows=lambda first, stop: self._read_rows(index, first, stop),
            read_all=lambda: self._read([index])[0],
            own=self._framework.own,
        )

    def _read(self, indexes: list[int]) -> list[Any]:
        catalogue = self._catalogue
        arrays = [self._empty(index, catalogue.shapes[index]) for index in indexes]
        self._read_into([(i, 0, catalogue.sizes[i], target) for i, target in zip(indexes, arrays)])
        return arrays

    def _empty(self, index: int, shape: tuple[int, ...]) -> Any:
        with about(self._catalogue.names[index]):
            return self._framework.empty(self._catalogue.dtypes[index], shape)

    def _read_rows(self, index: int, first: int, stop: int) -> Any:
        catalogue = self._catalogue
        shape = catalogue.shapes[index]
        target = self._empty(index, (stop - first, *shape[1:]))
        size = catalogue.sizes[index] // shape[0] if shape[0] else 0
        self._read_into([(index, first * size, (stop - first) * size, target)])
        return target

    def _read_into(self, targets: list[tuple[int, int, int, Any]]) -> None:
        load = _loading.read_into(self._open(), targets, self._framework, self._numbers())
        if load is not None:
            self._totals.add(load)
            load.close()

    def _numbers(self, *, buffer_bytes: int | None = None, rank: int = 0, world: int = 1) -> Any:
        """The options as the engine takes them."""
        options = self._options
        return call(
            _bridge.engine().options,
            self._framework.ordinal,
            options.buffer_bytes if buffer_bytes is None else buffer_bytes,
            options.chunk_bytes,
            options.readers,
            options.reads_in_flight,
            options.max_free_mem_usage,
            rank,
            world,
        )

    def stats(self) -> dict[str, Any]:
        """What loading took so far, over all loads of this object that are over.

        Returns
        -------
        dict
            ``bytes`` of tensors, ``read_bytes`` from files, ``seconds`` of loading,
            ``open_seconds``, ``gigabytes_per_second``;
            ``waits``: seconds by stage, of all reader threads together but for the caller's:
            ``read`` in reads, ``staging`` for a pinned buffer (the GPU's link is the limit), ``room`` for
            a free slab (the caller is the limit), ``copy`` in queueing copies, ``caller`` the caller's for slabs;
            ``slabs``, ``buffer_bytes`` (the cap), ``peak_buffer_bytes``, ``pinned_bytes``;
            ``files``: for each its ``file``, ``mode`` ("direct" or "buffered"), ``backend`` asked for,
            ``reason``, and the candidates ``passed_over`` with theirs.
        """
        flat = list(call(self._open().access))
        files = [
            {"file": file, "mode": mode, "backend": backend or None, "reason": reason, "passed_over": passed_over}
            for file, mode, backend, reason, passed_over in zip(
                self.filename, flat[0::4], flat[1::4], flat[2::4], flat[3::4]
            )
        ]
        return self._totals.report(self._framework.label, files)


def _paths(filename: Any) -> list[str]:
    """The paths as text, in whatever form they were given."""
    given = [filename] if isinstance(filename, (str, bytes, os.PathLike)) else filename
    try:
        items = list(given)
    except TypeError:
        raise TypeError(
            f"filename: expected a path or an iterable of paths, got {type(filename).__name__}"
        ) from None
    if not items:
        raise ValueError("filename: expected at least one path, got none")
    paths = []
    for item in items:
        path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else item
        if not isinstance(path, str):
            raise TypeError(f"filename: expected str or os.PathLike, found {type(item).__name__}")
        paths.append(_path(path))
    return paths


def _path(path: str) -> str:
    """An absolute path that the engine can open."""
    if not path:
        raise FileNotFoundError(errno.ENOENT, "expected a path, got an empty one", path)
    if "\0" in path:
        raise ValueError(f"filename: {path!r} contains a NUL character")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"filename: {path!r} is not UTF-8, as names of files have to be here") from None
    return os.path.abspath(path)
