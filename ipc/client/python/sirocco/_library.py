"""libsirocco.so.0 by ctypes: the structs and functions of ipc/client/sirocco.h.

tests/system/python_client_test.py compares every struct with what a C compiler says.
"""
from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p

SONAME = "libsirocco.so.0"
API_VERSION = 1  # of the header that this file follows


class ConnectOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("socket", c_char_p), ("name", c_char_p), ("timeout_ms", c_uint32),
                ("answer_timeout_ms", c_uint32)]


class ToolCall(ctypes.Structure):
    _fields_ = [("id", c_char_p), ("name", c_char_p), ("arguments", c_char_p)]


class Message(ctypes.Structure):
    _fields_ = [("role", c_int), ("content", c_char_p), ("content_bytes", c_size_t), ("tool_calls", POINTER(ToolCall)),
                ("tool_call_count", c_size_t), ("tool_call_id", c_char_p)]


class LogitBias(ctypes.Structure):
    _fields_ = [("id", c_int32), ("value", c_float)]


class Request(ctypes.Structure):
    _fields_ = [
        ("size", c_size_t), ("prompt", c_char_p), ("prompt_bytes", c_size_t), ("raw", c_int), ("special", c_int),
        ("messages", POINTER(Message)), ("message_count", c_size_t), ("tools", c_char_p), ("ids", POINTER(c_int32)),
        ("id_count", c_size_t), ("temperature", c_float), ("top_k", c_uint32), ("top_p", c_float), ("min_p", c_float),
        ("repetition_penalty", c_float), ("frequency_penalty", c_float), ("presence_penalty", c_float), ("seed", c_uint64),
        ("logit_bias", POINTER(LogitBias)), ("logit_bias_count", c_size_t), ("stop", POINTER(c_char_p)),
        ("stop_count", c_size_t), ("max_tokens", c_uint32), ("omit_ids", c_int), ("priority", c_int),
        ("deadline_ms", c_uint32), ("partial", c_int), ("max_queue_ms", c_uint32), ("latest_wins_key", c_char_p),
        ("session", c_char_p), ("prefill_only", c_int)]


ACCEPTED, TEXT, DONE = 1, 2, 3  # sirocco_event_kind


class Event(ctypes.Structure):
    # `text` as an address: as c_char_p it would end at the first zero.
    _fields_ = [
        ("size", c_size_t), ("kind", c_int), ("prompt_tokens", c_uint32), ("queue_position", c_uint32), ("text", c_void_p),
        ("text_bytes", c_size_t), ("ids", POINTER(c_int32)), ("id_count", c_size_t), ("reason", c_int),
        ("reason_name", c_char_p), ("stop_string", c_char_p), ("generated_tokens", c_uint32), ("cached_tokens", c_uint32),
        ("dropped_turns", c_uint32), ("queued_us", c_uint64), ("prefill_us", c_uint64), ("decode_us", c_uint64),
        ("lossy_experts", c_uint64)]


class Session(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("uid", c_uint32), ("turns", c_uint32), ("tokens", c_uint32),
                ("overflow", c_int), ("busy", c_int), ("idle_ms", c_uint64), ("saved_bytes", c_uint64)]


class Model(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("name", c_char_p), ("architecture", c_char_p), ("chat_format", c_char_p),
                ("tokenizer", c_char_p), ("quantisation", c_char_p), ("parameters", c_uint64), ("file_bytes", c_uint64),
                ("context", c_uint32), ("experts", c_uint32), ("experts_used", c_uint32)]


class Status(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("state", c_int), ("state_name", c_char_p), ("daemon_version", c_char_p),
                ("reasons", POINTER(c_char_p)), ("reason_count", c_size_t), ("model", POINTER(Model)),
                ("requests_running", c_uint32), ("requests_queued", c_uint32), ("uptime_ms", c_uint64), ("json", c_char_p)]


_CLIENT = c_void_p
_IDS = POINTER(POINTER(c_int32))
_SESSION = POINTER(POINTER(Session))

# name: (result, arguments)
FUNCTIONS = {
    "sirocco_api_version": (c_int, []),
    "sirocco_version": (c_char_p, []),
    "sirocco_new": (_CLIENT, []),
    "sirocco_free": (None, [_CLIENT]),
    "sirocco_connect": (c_int, [_CLIENT, POINTER(ConnectOptions)]),
    "sirocco_error_code": (c_int, [_CLIENT]),
    "sirocco_error_message": (c_char_p, [_CLIENT]),
    "sirocco_error_retry_after_ms": (c_uint32, [_CLIENT]),
    "sirocco_code_name": (c_char_p, [c_int]),
    "sirocco_generate": (c_int, [_CLIENT, POINTER(Request)]),
    "sirocco_next": (c_int, [_CLIENT, c_int, POINTER(POINTER(Event))]),
    "sirocco_fd": (c_int, [_CLIENT]),
    "sirocco_cancel": (None, [_CLIENT]),
    "sirocco_tokenize": (c_int, [_CLIENT, c_char_p, c_size_t, c_int, _IDS, POINTER(c_size_t)]),
    "sirocco_detokenize": (c_int, [_CLIENT, POINTER(c_int32), c_size_t, POINTER(c_void_p), POINTER(c_size_t)]),
    "sirocco_session_open": (c_int, [_CLIENT, c_char_p, c_int, _SESSION]),
    "sirocco_session_fork": (c_int, [_CLIENT, c_char_p, c_char_p, _SESSION]),
    "sirocco_session_rewind": (c_int, [_CLIENT, c_char_p, c_uint32, _SESSION]),
    "sirocco_session_close": (c_int, [_CLIENT, c_char_p, c_int]),
    "sirocco_session_list": (c_int, [_CLIENT, POINTER(_SESSION), POINTER(c_size_t)]),
    "sirocco_get_status": (c_int, [_CLIENT, POINTER(POINTER(Status))]),
}


@functools.lru_cache(maxsize=None)
def load() -> ctypes.CDLL:
    """The library, loaded at the first use of a client, so that importing this package never fails."""
    name = os.environ.get("SIROCCO_LIBRARY") or SONAME
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise ImportError(f"{error}: install the package libsirocco0, or name the file in $SIROCCO_LIBRARY") from None
    try:
        for function, (result, arguments) in FUNCTIONS.items():
            found = getattr(library, function)
            found.restype, found.argtypes = result, arguments
    except AttributeError as error:
        raise ImportError(f"{name}: {error}: it is not the libsirocco of this package, or older than it") from None
    if library.sirocco_api_version() < API_VERSION:
        raise ImportError(f"{name}: its interface is version {library.sirocco_api_version()}, this package needs "
                          f"{API_VERSION}: install a newer libsirocco0")
    return library


def library_version() -> str:
    """The version of libsirocco: "0.1.0"."""
    version: bytes = load().sirocco_version()
    return version.decode()
