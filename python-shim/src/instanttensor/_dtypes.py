"""Element types: the format's names, and what torch and numpy call them.

Source: the safetensors format (dtype names), torch's and ml_dtypes' documentation.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ._errors import UnsupportedDtypeError

if TYPE_CHECKING:
    import numpy as np
    import torch

# In the order of the engine's enum: an ordinal is what crosses the bridge.
NAMES = (
    "BOOL", "F4", "F6_E2M3", "F6_E3M2", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ",
    "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64", "F64", "I64", "U64",
)  # fmt: skip

_TORCH = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn_x2",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}

_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}

_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

# Two elements lie in one byte, and torch has one element for both.
PACKED_PAIRS = frozenset({"F4"})


@cache
def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a safetensors dtype.

    Raises
    ------
    UnsupportedDtypeError
        Where this torch has none, F6 in particular.
    """
    import torch

    dtype = getattr(torch, _TORCH.get(name, ""), None)
    if not isinstance(dtype, torch.dtype):
        raise UnsupportedDtypeError(
            f"dtype {name}: torch {torch.__version__} has no element type for it; "
            f"the file can be opened, and its other tensors loaded"
        )
    return dtype


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a safetensors dtype.

    Raises
    ------
    UnsupportedDtypeError
        Where numpy has none, and ml_dtypes is not installed or has none either.
    """
    import numpy as np

    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name not in _ML_DTYPES:
        remedy = "use framework='pt'" if name in _TORCH else "the file can be opened, and its other tensors loaded"
        raise UnsupportedDtypeError(f"dtype {name}: numpy has no element type for it; {remedy}")
    try:
        import ml_dtypes
    except ImportError:
        raise UnsupportedDtypeError(
            f"dtype {name}: numpy has no element type for it; pip install ml_dtypes, or use framework='pt'"
        ) from None
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
    return found


def view_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor as torch sees it: packed pairs halve the last dimension."""
    if name not in PACKED_PAIRS:
        return shape
    if not shape or shape[-1] % 2:
        raise UnsupportedDtypeError(
            f"dtype {name}: torch packs two elements a byte; the last dimension of {list(shape)} is odd"
        )
    return (*shape[:-1], shape[-1] // 2)
