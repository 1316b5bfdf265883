"""The numpy-like functions of the ``volta_mlir`` namespace, one module per op family.

They accept Tensors, numpy arrays and Python scalars, promote dtypes (``docs/semantics.md``), broadcast, and emit
ops. The dialect's own rules are written with them too.
"""

from volta_mlir.functions import contraction, convolution, creation, elementwise, indexing, movement, reduction, sorting
from volta_mlir.functions.contraction import *
from volta_mlir.functions.convolution import *
from volta_mlir.functions.creation import *
from volta_mlir.functions.elementwise import *
from volta_mlir.functions.indexing import *
from volta_mlir.functions.movement import *
from volta_mlir.functions.reduction import *
from volta_mlir.functions.sorting import *

_MODULES = (creation, elementwise, indexing, movement, reduction, contraction, convolution, sorting)

__all__ = [name for module in _MODULES for name in module.__all__]
