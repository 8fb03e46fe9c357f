"""What `load` reads pickles with: torch's names become tapegrad's, and nothing else is run unless it is asked for."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable
from typing import Any

from ..autograd import dtypes
from ..autograd.device import device as _device
from ..autograd.size import Size
from ..autograd.tensor import Tensor
from .archive import size_of
from .rebuilding import StorageType, added, with_state
from .rebuilding import names as known_names

_ATOMS = (str, int, float, bool, bytes, complex, type(None))
_DICTS = (dict, collections.OrderedDict, collections.Counter)
_CONTAINERS = (list, tuple, set, frozenset, *_DICTS)
_PLAIN = (set, frozenset, bytearray, complex, Size, _device, collections.OrderedDict, collections.Counter)
_KEY_DEPTH, _KEY_NODES = 50, 1_000_000  # tuples within tuples in keys: hashing them takes the C stack, and time


class FromCaller(Exception):
    """Carries an error of the caller's own `map_location` through the unpickler."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


class _Bounded:
    """A file as an unpickler reads it: a pickle cannot ask for more bytes than there are, and take memory for them."""

    def __init__(self, file: Any):
        self.file, self.size = file, size_of(file)
        self.readline = file.readline

    def read(self, count: int = -1) -> bytes:
        if count > self.size - self.file.tell():
            raise pickle.UnpicklingError("pickle data was truncated")
        return self.file.read(count)


def checked_id(pid: Any) -> tuple[Any, ...]:
    """(dtype or None, key, location, elements, *the rest) of a persistent id. UnpicklingError where it is none."""
    if type(pid) is not tuple or not 5 <= len(pid) <= 6 or _text(pid[0]) != "storage":
        raise pickle.UnpicklingError(f"Only persistent_load of storage is allowed, but got {_short(pid)}")
    _, kind, key, location, numel, *views = pid
    key, location = _text(key), _text(location)
    if not (isinstance(kind, StorageType) and type(key) is str and type(location) is str and type(numel) is int):
        raise pickle.UnpicklingError(f"a storage of type, key, location and size {_short(pid[1:5])} cannot be")
    view = views[0] if views else None
    if numel < 0 or (view is not None and [type(x) for x in view] not in ([str, int, int], [bytes, int, int])):
        raise pickle.UnpicklingError(f"a storage of {numel} elements and parts {_short(view)} cannot be")
    return kind.dtype, key, location, numel, *views


def _text(value: Any) -> Any:
    return value.decode("ascii") if type(value) is bytes else value


def _short(value: Any) -> str:
    """For errors: the types, since a value from a file may be too long to show."""
    if type(value) is tuple:
        return f"({', '.join(_short(x) for x in value[:6])})"
    return repr(value) if type(value) in (int, str) and len(str(value)) < 40 else type(value).__name__


def unpickle(
    file: Any,
    safe: bool,
    where: str,
    persistent_load: Callable[[Any], Any],
    arguments: dict[str, Any],
    sparse: list[Any] | None = None,
) -> Any:
    """The object of the pickle that begins where the file stands.

    Args:
        safe: only data: the closed list and what the user added.
        where: what errors call the pickle.
        persistent_load: gives the storages.
        sparse: collects the sparse tensors that are made.
    """
    unpickler: Any = (SafeUnpickler if safe else TorchUnpickler)(_Bounded(file), **arguments)
    unpickler.persistent_load = persistent_load
    if sparse is not None:
        unpickler.watch("torch._utils._rebuild_sparse_tensor", sparse)
    try:
        return unpickler.load()
    except pickle.UnpicklingError as error:
        if not safe:
            raise pickle.UnpicklingError(f"{error} ({where})") from error
        raise pickle.UnpicklingError(
            "Weights only load failed. If the file is whole, it can be loaded with weights_only=False, which can run "
            f"any code that the file holds: do so only if you trust where it comes from.\n{error} ({where})"
        ) from error
    except RuntimeError as error:
        if not isinstance(error, FromCaller) and len(error.args) == 1:
            error.args = (f"{error} ({where})",)
        raise


# In Python, since the C one lets no subclass say which objects may be called or given a state.
_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class SafeUnpickler(_PythonUnpickler):
    """Reads data: the names of the closed list and those the user added. UnpicklingError for anything else."""

    dispatch = dict(_PythonUnpickler.dispatch)
    for _code in (
        pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX, pickle.DICT, pickle.PERSID,
        pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    ):  # fmt: skip
        del dispatch[_code[0]]

    def __init__(self, file: Any, **arguments: Any):
        super().__init__(file, **arguments)
        self.names = {**known_names(), **added}
        self.callable = {id(v) for v in self.names.values() if not isinstance(v, StorageType | dtypes.dtype)}
        self.callable -= {id(v) for v in self.names.values() if isinstance(v, type) and issubclass(v, Tensor)}
        self.callable |= {id(v) for v in added.values()}
        self.nodes = _KEY_NODES + size_of(getattr(file, "file", file))

    def watch(self, name: str, made: list[Any]) -> None:
        """Collects what the function of that name makes."""
        self.names[name] = watched = _watched(self.names[name], made)
        self.callable.add(id(watched))

    def load(self) -> Any:
        """The object. UnpicklingError for whatever a pickle can have wrong, RuntimeError from tensors and files."""
        try:
            return super().load()
        except (pickle.UnpicklingError, FromCaller):
            raise
        except KeyError as error:
            raise pickle.UnpicklingError(f"Unsupported operand: data does not need operation {error}") from error
        except Exception as error:
            if isinstance(error, RuntimeError) and not isinstance(error, RecursionError | NotImplementedError):
                raise
            text = str(error)[:200]
            raise pickle.UnpicklingError(f"the pickle is damaged: {type(error).__name__}: {text}") from error

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            raise pickle.UnpicklingError(
                f"WeightsUnpickler error: Unsupported global: GLOBAL {full[:200]} was not an allowed global by "
                f"default. Use torch.serialization.add_safe_globals([{name[:200]}]) to allow it if you trust it"
            )
        return self.names[full]

    # ---- what may be called, and with what

    def _checked(self, function: Any, arguments: Any) -> Any:
        if id(function) not in self.callable:
            raise pickle.UnpicklingError(f"Trying to call reduce for unrecognized function {function!r}")
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError(f"Arguments must be a tuple, not {type(arguments).__name__}")
        if any(function is kind for kind in _PLAIN):
            self._check_plain(function, arguments)
        return function

    def _check_plain(self, function: Any, arguments: tuple[Any, ...]) -> None:
        """Containers take containers of the file: what else can be iterated may have no end."""
        for argument in arguments:
            kind = type(argument)
            if not (kind in _ATOMS or kind in _CONTAINERS) or (function is bytearray and kind not in (str, bytes)):
                raise pickle.UnpicklingError(f"{function.__name__} of {kind.__name__}")
            if kind in (list, tuple):
                for item in argument:
                    for key in item[:1] if type(item) is list else (item,):
                        self._check_key(key)

    def _check_key(self, key: Any) -> None:
        """Refuses keys whose hash would take all of the stack or of the time: tuples of the same tuples, many times."""
        if type(key) in _ATOMS:
            return
        todo = [(key, 0)]
        while todo:
            item, depth = todo.pop()
            if isinstance(item, tuple | frozenset):
                self.nodes -= len(item)
                if self.nodes < 0 or depth > _KEY_DEPTH:
                    raise pickle.UnpicklingError("a key of tuples within tuples, too many or too deep")
                todo.extend((part, depth + 1) for part in item)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self._checked(self.stack[-1], arguments)
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        kind = self._checked(self.stack.pop(), arguments)
        if not isinstance(kind, type):
            raise pickle.UnpicklingError(f"Can only create new object of a class, but got {kind!r}")
        self.append(kind.__new__(kind, *arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Tensor):
            with_state(target, state)
        elif type(target) in (collections.OrderedDict, collections.Counter):
            target.__dict__.update(state)
        elif type(target) in added.values():
            if hasattr(target, "__setstate__"):
                target.__setstate__(state)
            else:
                with_state(target, state)
        else:
            raise pickle.UnpicklingError(
                f"Can only build Tensor, Parameter, OrderedDict or types allowlisted, got {type(target)}"
            )

    # ---- what may be filled

    def _target(self, kinds: tuple[type, ...], target: Any) -> None:
        if type(target) not in kinds and type(target) not in added.values():
            raise pickle.UnpicklingError(f"Can only fill {kinds[0].__name__}, but got {type(target)}")

    def load_append(self) -> None:
        self._target((list,), self.stack[-2])
        super().load_append()

    def load_appends(self) -> None:
        self._target((list,), self.metastack[-1][-1])
        super().load_appends()

    def load_setitem(self) -> None:
        self._target(_DICTS, self.stack[-3])
        self._check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._target(_DICTS, self.metastack[-1][-1])
        for key in self.stack[::2]:
            self._check_key(key)
        super().load_setitems()

    def load_additems(self) -> None:
        self._target((set,), self.metastack[-1][-1])
        for key in self.stack:
            self._check_key(key)
        super().load_additems()

    def load_frozenset(self) -> None:
        for key in self.stack:
            self._check_key(key)
        super().load_frozenset()

    def load_bytearray8(self) -> None:
        count = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(count)))

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def _watched(function: Callable[..., Any], made: list[Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        made.append(function(*arguments))
        return made[-1]

    return call


class TorchUnpickler(pickle.Unpickler):
    """Reads anything; torch's names mean tapegrad's."""

    def __init__(self, file: Any, **arguments: Any):
        super().__init__(file, **arguments)
        self.names = known_names()

    def watch(self, name: str, made: list[Any]) -> None:
        """Collects what the function of that name makes."""
        self.names[name] = _watched(self.names[name], made)

    def find_class(self, module: str, name: str) -> Any:
        found = self.names.get(f"{module}.{name}")
        if found is not None:
            return found
        if module.partition(".")[0] == "torch":
            from ..compat import module_for

            value: Any = module_for(module)
            for word in name.split("."):
                value = getattr(value, word)
            return value
        return super().find_class(module, name)
