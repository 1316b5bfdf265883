"""Batches of arrays or of a dataset's samples: shuffled, read ahead, with a position that can be saved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np

from volta_mlir import tree as trees
from volta_mlir.errors import ShapeError
from volta_mlir.tensor import Tensor

__all__ = ["DataLoader", "collate"]


class DataLoader:
    """Batches of a dataset, as ``torch.utils.data.DataLoader`` gives them, made of numpy arrays.

    Each ``for`` loop is one epoch. The order of an epoch follows from the seed and the epoch's number alone, whatever
    was drawn before: a run that is resumed sees what an uninterrupted one does.

    Args:
        dataset: what to take samples from:

            - an array or a Tensor: a sample is a row;
            - a tuple or a dict of such, all of one length: a sample is a row of each;
            - anything with ``__len__`` and ``__getitem__``, such as a list: a sample is an element.
        batch_size: samples per batch; the last batch of an epoch may have fewer.
        shuffle: whether each epoch has an order of its own.
        seed: what the orders follow from.
        drop_last: whether a last batch that has fewer samples is left out.
        collate_fn: makes a batch of a list of samples; default :func:`collate`. Arrays are indexed instead.
        prefetch: how many batches a thread makes ahead of the loop; 0 makes them in the loop itself.

    Attributes:
        epoch: the number of the epoch that the next batch belongs to.

    Raises:
        ValueError: the dataset is empty, gives no batch, or a number is out of range.
        ShapeError: the arrays have different lengths.

    Example:
        >>> x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
        >>> loader = DataLoader((x, y), batch_size=2, shuffle=True, seed=1)
        >>> [y.tolist() for x, y in loader]
        [[3, 2], [0, 1], [4]]
        >>> [y.tolist() for x, y in loader]
        [[0, 3], [4, 2], [1]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 2,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: expected {least} or more")
        self._arrays = _arrays_of(dataset)
        self._length = len(dataset) if self._arrays is None else _length_of(self._arrays)
        if not self._length:
            raise ValueError("the dataset is empty")
        if drop_last and self._length < batch_size:
            raise ValueError(f"{self._length} samples are less than one batch of {batch_size}, and drop_last is set")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.drop_last, self.prefetch = drop_last, prefetch
        self.collate_fn = collate if collate_fn is None else collate_fn
        self.epoch = 0
        self._batch = 0
        self._resumes = False

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return self._length // self.batch_size if self.drop_last else -(-self._length // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """One epoch's batches; after :meth:`load_state_dict` those that are left of it.

        An exception of the dataset's is raised where its batch would be, with a note that names the sample.
        """
        if self._batch and not self._resumes:  # a loop that was left ended its epoch
            self._move(self.epoch + 1, 0)
        self._resumes = False
        return self._batches(self.epoch, self._batch)

    def _batches(self, epoch: int, start: int) -> Iterator[Any]:
        made = self._made(epoch, start)
        for index, batch in enumerate(_ahead(made, self.prefetch) if self.prefetch else made, start + 1):
            # Moved on before the batch is used: what is saved after its step goes on with the next.
            self._move(*((epoch, index) if index < len(self) else (epoch + 1, 0)))
            yield batch

    def _move(self, epoch: int, batch: int) -> None:
        self.epoch, self._batch = epoch, batch

    def _made(self, epoch: int, start: int) -> Iterator[Any]:
        order = self._order(epoch)
        for index in range(start, len(self)):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield self._taken(rows, f"batch {index} of epoch {epoch}")

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self._length)
        # The numbers of a bit generator never change between versions of numpy; a permutation's order might.
        counter = np.random.Philox(key=np.array([self.seed % (1 << 64), epoch], np.uint64))
        return np.argsort(counter.random_raw(self._length), kind="stable")

    def _taken(self, rows: np.ndarray, where: str) -> Any:
        if self._arrays is not None:
            return trees.map(lambda array: array[rows], self._arrays)
        samples = []
        for row in rows.tolist():
            try:
                samples.append(self.dataset[row])
            except Exception as error:
                error.add_note(f"raised by sample {row} of the dataset, in {where}")
                raise
        try:
            return self.collate_fn(samples)
        except Exception as error:
            error.add_note(f"raised while samples {rows.tolist()} were put together, in {where}")
            raise

    def state_dict(self) -> dict[str, Any]:
        """The position, which JSON can hold: the epoch, and the batch of it that comes next.

        >>> loader = DataLoader([10, 20, 30, 40], batch_size=2)
        >>> for batch in loader:
        ...     state = loader.state_dict()
        ...     break
        >>> other = DataLoader([10, 20, 30, 40], batch_size=2)
        >>> other.load_state_dict(state)
        >>> [batch.tolist() for batch in other]
        [[30, 40]]
        """
        return {"epoch": self.epoch, "batch": self._batch, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """What a position only makes sense with."""
        return {
            "length": self._length,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Moves to a position that :meth:`state_dict` gave; the next loop starts there, in the middle of an epoch too.

        Raises:
            ValueError: the position is one of another dataset's length, another batch size or another order.
        """
        names = sorted(self.state_dict())
        if sorted(state) != names:
            raise ValueError(f"a position has {', '.join(names)}; got {', '.join(map(str, state))}")
        identity = self._identity()
        differences = [f"{name} was {state[name]} and is {new}" for name, new in identity.items() if state[name] != new]
        if differences:
            raise ValueError(f"the position is another loader's: {'; '.join(differences)}")
        if state["epoch"] < 0 or not 0 <= state["batch"] < len(self):
            raise ValueError(f"there is no batch {state['batch']} of epoch {state['epoch']}")
        self._move(state["epoch"], state["batch"])
        self._resumes = True


def collate(samples: list[Any]) -> Any:
    """A batch of samples, which are trees of one structure: leaves are stacked along a new first axis.

    Arrays keep their dtypes; Python floats become float32 and ints int32, as everywhere in Volta. Strings stay a list.

    Raises:
        ShapeError: the samples' structures or shapes differ.

    >>> collate([{"x": np.zeros(3), "y": 1}, {"x": np.ones(3), "y": 2}])["y"]
    array([1, 2], dtype=int32)
    """
    flat = [trees.flatten(sample) for sample in samples]
    _, treedef = flat[0]
    for _, other in flat:
        if other != treedef:
            first, one = (trees.unflatten(t, ["a leaf"] * t.num_leaves) for t in (treedef, other))
            difference = trees.mismatch(first, one, "{path} is {first} in one and {second} in another", "sample")
            raise ShapeError(f"samples of a batch have one structure; {difference}")
    return trees.unflatten(treedef, [_stacked(column) for column in zip(*(leaves for leaves, _ in flat), strict=True)])


def _stacked(values: tuple[Any, ...]) -> Any:
    if isinstance(values[0], str | bytes):
        return list(values)
    if all(isinstance(value, bool | int | float) for value in values):
        return Tensor(list(values)).numpy()
    arrays = [np.asarray(value) for value in values]
    if arrays[0].dtype == object:
        raise TypeError(f"a {type(values[0]).__name__} makes no array; pass a collate_fn")
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        given = ", ".join(map(str, sorted(shapes)))
        raise ShapeError(f"samples of a batch have one shape, got {given}; pass a collate_fn")
    return np.stack(arrays)


def _arrays_of(dataset: Any) -> Any:
    """A dataset that is made of arrays, as numpy's; None for one that gives samples."""
    if not isinstance(dataset, (tuple, dict, np.ndarray, Tensor)):
        return None
    leaves = trees.leaves(dataset)
    are_arrays = leaves and all(isinstance(leaf, (np.ndarray, Tensor)) for leaf in leaves)
    return trees.map(np.asarray, dataset) if are_arrays else None


def _length_of(arrays: Any) -> int:
    leaves = trees.leaves(arrays)
    if not all(array.shape for array in leaves):
        raise ShapeError("an array of rank 0 has no rows")
    lengths = {len(array) for array in leaves}
    if len(lengths) > 1:
        raise ShapeError(f"the arrays of a dataset have one length, got {', '.join(map(str, sorted(lengths)))}")
    return lengths.pop()


def _ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
    """The items, of which a thread makes up to ``count`` ahead; it ends when the iterator is closed or dropped."""
    done: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    free, stop = threading.Semaphore(count), threading.Event()

    def make() -> None:
        try:
            while True:
                free.acquire()
                if stop.is_set():
                    return
                done.put(("item", next(items)))
        except StopIteration:
            done.put(("end", None))
        except BaseException as error:  # to be raised in the loop
            done.put(("error", error))

    threading.Thread(target=make, name="volta-data", daemon=True).start()
    try:
        while True:
            kind, item = done.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            free.release()
            yield item
    finally:
        stop.set()
        free.release()
