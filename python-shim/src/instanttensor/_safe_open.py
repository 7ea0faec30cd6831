"""`safe_open`: a checkpoint, opened.

The path from files to tensors: `_paths` says which files, `_checkpoint` opens them and has their headers
decoded (`_catalogue`). The engine plans, reads, stages and fills slabs; `_pass` starts that for all
tensors, and `_loading` makes tensors of the slabs as they come. What is asked for by its name goes
through `_reads`, a part of it through `_slices` first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from . import _bridge, _filters, _frameworks, _loading, _pass, _paths, _progress, _reads
from ._checkpoint import Checkpoint
from ._distributed import group_of
from ._errors import about
from ._options import BackendCandidate, Options, Progress
from ._slices import TensorSlice

if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    import torch
    from typing_extensions import Self

    from ._catalogue import Catalogue

    PathLike: TypeAlias = str | os.PathLike[str]


class safe_open:  # noqa: N801  (the name is safetensors')
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
        Bytes; a hard cap on the slabs of one pass that no tensor refers to; with a `process_group` it is that, or
        twice the largest tensor, if that is more. By default at most three times
        the largest tensor or 1 GiB, whichever is more, and never more than `max_free_mem_usage` of
        what is free. A tensor that is larger than the cap gets storage of its own.
    chunk_size : int, optional
        Bytes of one read, at most 64 MiB, rounded up to a multiple of 4 KiB; 2 MiB by default.
    concurrency : int, optional
        Threads that read, at most 256; 0 or None: where the files lie in memory, as many as the machine is
        good for, 16 at most; elsewhere 8 to begin with, and up to 49 of 2 MiB each while more bring more.
    io_depth : int, optional
        Reads under way at once, up to 1024; a thread has one, so there are never more than `concurrency`. Without
        `concurrency` it fixes their number where they wait for storage, up to 49 of 2 MiB each; where the
        files lie in memory it can only lower it.
    max_free_mem_usage : float, optional
        The part of the device's free memory that the default of `buffer_size` may take: more than 0,
        at most 1; 0.5 by default.
    load_now : bool, default True
        True: staging buffers for a GPU are made ready while headers are read. Reading starts when the
        first tensor of `tensors()` is asked for, in either case.
    copy : bool, default True
        True: tensors own storage of exactly their size. False: tensors are views of slabs, valid for
        as long as anybody holds them; a slab is freed with the last of its views. In either case a tensor
        larger than `buffer_size` is the one view of a slab of its own. torch.save writes whole slabs for views,
        and refuses those of several types; safetensors' save_file takes them.
    backend : Backend, BackendPolicy, str, or list of them, optional
        Ways of reading, each as its docstring says; the first that can serve is taken, and `stats()` says
        which, and why others were not. None reads with pread, and chooses for each file: past the page
        cache, unless it holds most of the file already.
    tensor_filter : list of str, optional
        Names or patterns; only tensors that one of them matches exist for this object, and are read.
    tensor_name_match_mode : {"glob", "exact", "regex"}
        How `tensor_filter` is to be read. Whole names are matched, and case counts.
    progress : bool or callable, default False
        True shows a tqdm bar for each pass over `tensors()`; a callable gets ``(bytes_done,
        bytes_total)``, never going down and ending at the total.
    read_once_per : {"group", "node"}, default "group"
        With a `process_group`: each byte is read by one rank of the group, and gathered by the others; or,
        where the group spans several machines, by one rank of each, so that no bytes cross between them.

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
        `chunk_size` or `concurrency` is more than is used, as InstantTensor allows. When loading starts:
        tensors are larger than `buffer_size`.

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
        device: int | str | torch.device | None = "cpu",
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
        read_once_per: Literal["group", "node"] = "group",
    ) -> None:
        started = time.perf_counter()
        group = group_of(process_group)
        with ExitStack() as undo, nullcontext() if group is None else group.undisturbed():
            # With a group, all that can fail on one rank alone, arguments included.
            with nullcontext() if group is None else group.jointly("to open the checkpoint"):
                options = Options.resolve(
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
                if read_once_per not in ("group", "node"):
                    raise ValueError(f"read_once_per={read_once_per!r}: expected group or node")
                _progress.check(progress)
                matches = _filters.matcher(tensor_filter, tensor_name_match_mode)
                paths = _paths.absolute(filename)
                chosen = _frameworks.choose(framework, device)
                if group is not None:
                    group.load_to(chosen.ordinal)
                self.framework = framework
                self.device = chosen.device
                self._copy = copy
                self._progress = progress
                # For ranks that compare.
                filter_text = "" if group is None else _filters.described(tensor_filter, tensor_name_match_mode)
                self._checkpoint = Checkpoint(chosen, options, matches, group, filter_text, read_once_per)
                # A traceback that somebody keeps would keep the files open; a warning can be an error.
                undo.callback(self.close)
                self._checkpoint.open(paths, prepare=load_now)
                self.filename = self._checkpoint.files
                self.total_tensor_size = self._checkpoint.total_bytes
                self._checkpoint.totals.open_seconds = time.perf_counter() - started
                self._checkpoint.warn_of_duplicates()
            if group is not None:
                # The first of them may have waited for long; whoever was interrupted meanwhile can tell the others.
                with group.jointly("to open the checkpoint"):
                    pass
            undo.pop_all()

    @property
    def buffer_size(self) -> int:
        """Bytes of slabs that no tensor refers to, at most; without an argument or a variable, as it would
        be chosen now, from the largest tensor and the memory that is free."""
        return _loading.cap_bytes(self._checkpoint)

    @property
    def _catalogue(self) -> Catalogue:
        """The tensors; SafetensorError after `close()`."""
        self._checkpoint.alive()
        return self._checkpoint.catalogue

    def __enter__(self) -> Self:
        self._checkpoint.alive()
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
        # Where __init__ raised, there may be none.
        checkpoint: Checkpoint | None = getattr(self, "_checkpoint", None)
        if checkpoint is not None:
            checkpoint.close()

    def keys(self) -> list[str]:
        """Names of the tensors, in the order of their files and of their offsets there."""
        catalogue = self._catalogue
        return [catalogue.names[index] for index in catalogue.selected]

    def offset_keys(self) -> list[str]:
        """The same as `keys()`; of safetensors' two methods the one that keeps the order of offsets."""
        return self.keys()

    def __bool__(self) -> bool:
        # Also where it is empty, or closed: `if f: f.close()`.
        return True

    def __len__(self) -> int:
        return len(self._catalogue.selected)

    def __contains__(self, name: object) -> bool:
        return name in self._catalogue

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def metadata(self) -> dict[str, str] | None:
        """The files' ``__metadata__``, later files' entries over earlier ones'; None where none has any."""
        java = self._checkpoint.alive()
        merged: dict[str, str] | None = None
        for number in range(len(self.filename)):
            flat = _bridge.call(java.metadata, number)
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
        catalogue, framework = self._catalogue, self._checkpoint.framework
        index = catalogue.find(name)
        stored, shape = catalogue.dtypes[index], catalogue.shapes[index]
        with about(name):
            return framework.dtype(stored), framework.shape(stored, shape)

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
        self._checkpoint.alive()
        return _pass.tensors(self._checkpoint, copy=self._copy, progress=self._progress)

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
        return _reads.whole(self._checkpoint, [self._catalogue.find(name)])[0]

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
        catalogue = self._catalogue
        if isinstance(names, str) or not isinstance(names, (Iterable, type(None))):
            raise TypeError(f"names: expected an iterable of str, got a single {type(names).__name__}")
        wanted = self.keys() if names is None else list(names)
        found = [catalogue.find(name) for name in wanted]
        return dict(zip(wanted, _reads.whole(self._checkpoint, found)))

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
        checkpoint, catalogue = self._checkpoint, self._catalogue
        index = catalogue.find(name)
        return TensorSlice(
            name,
            catalogue.dtypes[index],
            catalogue.shapes[index],
            read_rows=lambda first, stop: _reads.rows(checkpoint, index, first, stop),
            read_all=lambda: _reads.whole(checkpoint, [index])[0],
            own=checkpoint.framework.own,
        )

    def stats(self) -> dict[str, Any]:
        """What loading took so far, over all loads of this object that are over.

        Returns
        -------
        dict
            ``bytes`` of tensors, ``read_bytes`` from files, ``seconds`` of loading (until the last slab is there:
            with ``copy=True`` tensors are copied out of it after that),
            ``open_seconds`` (of a process's first: torch's import and Java's start in it), ``plan_seconds``
            (between opening and loading),
            ``gigabytes_per_second``;
            ``waits``: seconds by stage, of all reader threads together but for the caller's:
            ``read`` in reads, ``staging`` for a pinned buffer (the GPU's link is the limit), ``room`` for
            a free slab (the caller is the limit), ``copy`` in queueing copies, ``caller`` the caller's for slabs;
            ``slabs``, ``buffer_bytes`` (the cap), ``peak_buffer_bytes``, ``pinned_bytes``;
            ``reads_in_flight``: how many were under way at once, at most;
            ``files``: for each its ``file``, ``mode`` ("direct", "buffered", or "mixed": what the page cache holds
            when it is read comes from there, and the rest directly), ``backend`` asked for,
            ``reason`` (of the page cache, what it held at opening), and the candidates ``passed_over`` with theirs.
        """
        return self._checkpoint.stats()
