"""libipc from Python, with nothing but ctypes.

    with ipc.connect("sensors") as sensors:
        sensors.send(b"hello")

    with ipc.Listener("sensors") as listener, listener.accept() as client:
        for message in client:
            print(bytes(message))

A message is a memoryview of the memory that the sender wrote. It stays valid as long as anything refers to it, also once
its connection is closed; then its memory is the sender's again. IPC_LIBRARY says where the library is, if the system does
not know.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

FOREVER = -1
"""A timeout in seconds that never ends; 0 does not wait."""


class Options(ctypes.Structure):
    """ipc_options; zero stands for the default."""

    _fields_ = [
        ("size", c_size_t), ("mode", c_uint32), ("flags", c_uint32), ("wait", c_uint32), ("permissions", c_uint32),
        ("spin_ns", c_uint64), ("timeout_ns", c_int64), ("ring_to_server", c_uint64), ("ring_to_client", c_uint64),
        ("max_connections", c_uint64), ("max_memory", c_uint64), ("credit_messages", c_uint64),
        ("credit_arena", c_uint64), ("credit_message", c_uint64), ("coalesce_messages", c_uint64),
        ("coalesce_ns", c_uint64), ("users", POINTER(c_uint32)), ("user_count", c_size_t), ("admit", c_void_p),
        ("admit_data", c_void_p), ("payload_name", c_char_p), ("payload_size", c_uint64), ("payload_align", c_uint64),
    ]  # fmt: skip


class _Message(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p), ("len", c_size_t), ("lane", c_uint32), ("flags", c_uint32), ("files", c_uint32),
        ("reserved", c_uint32),
    ]  # fmt: skip


class IpcError(OSError):
    """A call failed: `result` is the ipc_result, the text is the library's."""

    def __init__(self, result: int, text: str) -> None:
        super().__init__(text)
        self.result = result


class WouldBlock(IpcError):
    """Nothing is there at the moment, or no room."""


class TimedOut(IpcError):
    """Nothing came in time."""


class Disconnected(IpcError):
    """The peer has closed its side; all that it sent was received."""


_ERRORS = {1: WouldBlock, 2: TimedOut, 3: Disconnected}
_WAIT_FOR_LISTENER = 32

_lib = ctypes.CDLL(os.environ.get("IPC_LIBRARY", "libipc.so.0.1"))


def _declare(name: str, *arguments: type) -> None:
    function = getattr(_lib, name)
    function.argtypes, function.restype, function.errcheck = arguments, c_int32, _check


def _check(result: int, function: object, arguments: tuple[object, ...]) -> int:
    if result != 0:
        raise _ERRORS.get(result, IpcError)(result, _lib.ipc_last_error().decode())
    return result


_lib.ipc_last_error.restype = c_char_p
_declare("ipc_options_init", POINTER(Options), c_size_t)
_declare("ipc_connect", c_char_p, POINTER(Options), POINTER(c_void_p))
_declare("ipc_listen", c_char_p, POINTER(Options), POINTER(c_void_p))
_declare("ipc_accept", c_void_p, c_int64, POINTER(c_void_p))
_declare("ipc_listener_close", c_void_p)
_declare("ipc_send", c_void_p, c_char_p, c_size_t, c_int64)
_declare("ipc_lend", c_void_p, c_size_t, c_int64, POINTER(c_void_p))
_declare("ipc_commit", c_void_p, c_size_t)
_declare("ipc_cancel", c_void_p)
_declare("ipc_recv", c_void_p, POINTER(_Message), c_int64)
_declare("ipc_hold", c_void_p, POINTER(c_void_p), POINTER(_Message))
_declare("ipc_held_drop", c_void_p)
_declare("ipc_close", c_void_p)


def _ns(seconds: float) -> int:
    return FOREVER if seconds < 0 else round(seconds * 1e9)


def _wait(seconds: float, call: Callable[[int], object]) -> None:
    """Calls with a timeout in ns. A wait without end is one in steps: in between, Python looks after signals (Ctrl-C)."""
    while seconds < 0:
        try:
            call(200_000_000)
            return
        except TimedOut:
            pass
    call(_ns(seconds))


def _bytes_at(address: int | None, length: int) -> ctypes.Array[ctypes.c_ubyte]:
    array = ctypes.c_ubyte * length
    return array.from_address(address) if address and length else array()


def options(**fields: int | bytes) -> Options:
    """Options with these fields, the others their defaults: options(mode=1)."""
    made = Options()
    _lib.ipc_options_init(byref(made), ctypes.sizeof(Options))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def connect(name: str, wait: float | None = None, using: Options | None = None) -> Connection:
    """Connects to whoever listens under this name or path; with `wait`, up to so many seconds until somebody does."""
    using = using or options()
    if wait is not None:
        using.flags |= _WAIT_FOR_LISTENER
        using.timeout_ns = _ns(wait)
    handle = c_void_p()
    _lib.ipc_connect(os.fsencode(name), byref(using), byref(handle))
    return Connection(handle)


class Connection:
    """Both directions between two processes. Iterating receives until the peer has closed its side."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle
        self._close = weakref.finalize(self, _lib.ipc_close, handle)

    def send(self, message: bytes, timeout: float = FOREVER) -> None:
        """Sends a copy of the bytes."""
        _wait(timeout, lambda ns: _lib.ipc_send(self._handle, message, len(message), ns))

    @contextmanager
    def loan(self, length: int, timeout: float = FOREVER) -> Iterator[memoryview]:
        """Memory to write a message into, which the receiver reads there. It is sent when the block ends, unless by an
        exception; nothing may refer to the memory afterwards."""
        address = c_void_p()
        _wait(timeout, lambda ns: _lib.ipc_lend(self._handle, length, ns, byref(address)))
        try:
            with memoryview(_bytes_at(address.value, length)).cast("B") as view:
                yield view
        except BaseException:
            _lib.ipc_cancel(self._handle)
            raise
        _lib.ipc_commit(self._handle, length)

    def recv(self, timeout: float = FOREVER) -> memoryview:
        """The next message, to be read only. A large one is where its sender wrote it."""
        held, message = c_void_p(), _Message()
        _wait(timeout, lambda ns: _lib.ipc_recv(self._handle, byref(message), ns))
        _lib.ipc_hold(self._handle, byref(held), byref(message))
        array = _bytes_at(message.data, message.len)
        weakref.finalize(array, _lib.ipc_held_drop, held)
        return memoryview(array).cast("B").toreadonly()

    def __iter__(self) -> Iterator[memoryview]:
        try:
            while True:
                yield self.recv()
        except Disconnected:
            return

    def close(self) -> None:
        """The peer gets what was sent before, then the news."""
        self._close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class Listener:
    """Listens under a name or path."""

    def __init__(self, name: str, using: Options | None = None) -> None:
        self._handle = c_void_p()
        _lib.ipc_listen(os.fsencode(name), byref(using or options()), byref(self._handle))
        self._close = weakref.finalize(self, _lib.ipc_listener_close, self._handle)

    def accept(self, timeout: float = FOREVER) -> Connection:
        """The next client."""
        handle = c_void_p()
        _wait(timeout, lambda ns: _lib.ipc_accept(self._handle, ns, byref(handle)))
        return Connection(handle)

    def close(self) -> None:
        """Takes the name away; connections live on."""
        self._close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
