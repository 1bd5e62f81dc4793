"""Operators of a SavedModel, checked before TensorFlow loads it.

Loading a SavedModel runs a program: its initializers, and then its step, may read and write files
with operators of TensorFlow itself. So every operator in it, used or not, must be on the allow-list
in ``tensorflow_operators.txt``. The functions that store and restore the model's own variables may
also use the checkpoint operators, as long as only the saver uses these functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.settings import shown
from edgevid_converters.importers.trust import TRUST
from edgevid_converters.library_errors import first_line

LIST = Path(__file__).with_name("tensorflow_operators.txt")
SAVER = "saver:"
CHUNKED = "saved_model.cpb"
"""The form in chunks, which some loaders of TensorFlow prefer to ``saved_model.pb``."""
RESTORE = "RestoreV2"
REMEDY = f"export the model without it, or {TRUST}"


@dataclass(frozen=True)
class AllowedOperators:
    """The allow-list.

    Attributes:
        everywhere: Operators that compute and do nothing else.
        saver: Operators of checkpoints, for the model's own saver only.
    """

    everywhere: frozenset[str]
    saver: frozenset[str]


@cache
def allowed() -> AllowedOperators:
    """Read the allow-list."""
    lines = [line.strip() for line in LIST.read_text("utf-8").splitlines()]
    named = [line for line in lines if line and not line.startswith("#")]
    saver = {line.removeprefix(SAVER).strip() for line in named if line.startswith(SAVER)}
    return AllowedOperators(
        frozenset(line for line in named if not line.startswith(SAVER)), frozenset(saver)
    )


def check(path: Path) -> None:
    """Check every operator of a SavedModel; nothing of it is executed.

    Args:
        path: The folder with ``saved_model.pb``.

    Raises:
        BadInput: It is damaged, or has an operator that is not on the list.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    if (path / CHUNKED).exists():
        raise BadInput(
            f"{path} has a {CHUNKED}, which TensorFlow may load instead of saved_model.pb; "
            "remove it, or export the model again"
        )
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        reason = first_line(error)
        raise BadInput(f"{path} cannot be loaded by TensorFlow: {reason}") from None
    for graph in saved.meta_graphs:
        for where, operator in _Graph(graph).refused():
            raise BadInput(
                f"{path}: operator {shown(operator)} ({where}) may do more than compute, so the "
                f"model is not loaded; {REMEDY}"
            )


class _Graph:
    """One graph of a SavedModel, with its functions."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._nodes: Mapping[str, Any] = {node.name: node for node in graph.graph_def.node}
        library = graph.graph_def.library
        self._functions: Mapping[str, Any] = {one.signature.name: one for one in library.function}
        self._duplicates = len(self._functions) != len(library.function) or len(self._nodes) != len(
            graph.graph_def.node
        )

    def refused(self) -> Iterator[tuple[str, str]]:
        """Yield where each operator is that is not allowed there, and its name."""
        known, functions = allowed(), self._functions
        nodes, own = self._saver()
        for node in self._nodes.values():
            allowed_here = node.name in nodes and node.op in known.saver
            if not (allowed_here or node.op in known.everywhere or node.op in functions):
                yield f"node {shown(node.name)}", node.op
        for name, function in functions.items():
            for node in function.node_def:
                allowed_here = name in own and node.op in known.saver
                if not (allowed_here or node.op in known.everywhere or node.op in functions):
                    yield f"node {shown(node.name)} of function {shown(name)}", node.op

    def _saver(self) -> tuple[set[str], set[str]]:
        """Find the nodes and functions that nothing but the saver can run."""
        saver = self._graph.saver_def
        ends = {_node_of(saver.save_tensor_name), _node_of(saver.restore_op_name)} - {""}
        if self._duplicates or not ends or not self._restores_its_own(saver):
            return set(), set()
        nodes = self._before(ends)
        others = self._before({*self._named(), *(set(self._nodes) - nodes)})
        nodes -= others
        mine = self._called_from(self._nodes[name] for name in nodes)
        theirs = self._called_from(self._nodes[name] for name in others)
        for function in (one for name, one in self._functions.items() if name not in mine):
            theirs |= self._called_from([*function.node_def, function])
        theirs |= self._reached(self._of_objects())
        return nodes, mine - theirs

    def _restores_its_own(self, saver: Any) -> bool:
        """Whether restoring writes nothing, and reads what the loader names.

        In a graph of TensorFlow 1 the loader runs the nodes; of later ones it runs none of them.
        """
        if self._graph.HasField("object_graph_def"):
            return True
        names = {_node_of(saver.filename_tensor_name)}
        for name in self._before({_node_of(saver.restore_op_name)} - {""}):
            node = self._nodes[name]
            if node.op in allowed().saver - {RESTORE}:
                return False
            if node.op == RESTORE and _node_of(node.input[0]) not in names:
                return False
            if self._called_from([node]):
                return False
        return True

    def _before(self, ends: Iterable[str]) -> set[str]:
        """All nodes that some nodes depend on, themselves included."""
        found: set[str] = set()
        left = [name for name in ends if name in self._nodes]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                inputs = (_node_of(one) for one in self._nodes[name].input)
                left += [one for one in inputs if one in self._nodes]
        return found

    def _named(self) -> set[str]:
        """Nodes that anything but the saver names: signatures, collections, assets."""
        tensors: list[str] = []
        for signature in self._graph.signature_def.values():
            for info in (*signature.inputs.values(), *signature.outputs.values()):
                tensors.append(info.name)
                tensors += [one.name for one in info.composite_tensor.components]
        for collection in self._graph.collection_def.values():
            tensors += collection.node_list.value
        tensors += [one.tensor_info.name for one in self._graph.asset_file_def]
        return {_node_of(one) for one in tensors}

    def _of_objects(self) -> set[str]:
        """Names of the functions that objects have, which loading may run."""
        objects = self._graph.object_graph_def
        found = set(objects.concrete_functions)
        for node in objects.nodes:
            found |= set(node.function.concrete_functions)
            if node.HasField("bare_concrete_function"):
                found.add(node.bare_concrete_function.concrete_function_name)
        return found

    def _called_from(self, nodes: Iterable[Any]) -> set[str]:
        """Functions that nodes call, directly or through others."""
        names: set[str] = set()
        for node in nodes:
            if hasattr(node, "op"):
                names.add(node.op)
            names |= set(_functions_in(node.attr))
        return self._reached(names)

    def _reached(self, names: Iterable[str]) -> set[str]:
        """Functions of these names, and those that they call; gradients are calls too."""
        gradients = {
            one.function_name: one.gradient_func for one in self._graph.graph_def.library.gradient
        }
        found: set[str] = set()
        left = [name for name in names if name in self._functions]
        while left:
            name = left.pop()
            if name in found:
                continue
            found.add(name)
            function = self._functions[name]
            called = {node.op for node in function.node_def} | {gradients.get(name, "")}
            called |= set(_functions_in(function.attr))
            for node in function.node_def:
                called |= set(_functions_in(node.attr))
            left += [one for one in called if one in self._functions]
        return found


def _functions_in(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Names of functions in the attributes of a node or a function."""
    for value in attributes.values():
        for one in ([value.func] if value.HasField("func") else []) + list(value.list.func):
            yield one.name
            yield from _functions_in(one.attr)


def _node_of(tensor: str) -> str:
    """The node that a tensor's or an input's name belongs to."""
    return tensor.removeprefix("^").partition(":")[0]
