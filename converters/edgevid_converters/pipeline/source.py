"""The second stage: the source model, and the form of it that each converter takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.tasks.host import open_host
from edgevid_converters import importers
from edgevid_converters.acceptance.reference import OwnerOutputs, read_reference
from edgevid_converters.importers.source_model import SourceModel
from edgevid_converters.pipeline.plan import Plan


@dataclass(frozen=True)
class ConversionSource:
    """The model to convert.

    Attributes:
        model: The model, not yet loaded.
        forms: Format -> the form of the model that its converter takes.
        owner: The owner's outputs, if given.
    """

    model: SourceModel
    forms: Mapping[str, str]
    owner: OwnerOutputs | None


def read_source(plan: Plan) -> ConversionSource:
    """Describe the model.

    Raises:
        BadInput: There is no model, it cannot become a planned format, or the budget is out of
            the range of its task's metric.
        ChildFailed: The model's own runtime crashed on it.
    """
    options = plan.options
    model = importers.describe(options.model, options.contract)
    options.budget.check(open_host(model.contract.task).metric)
    owner = read_reference(options.reference, model.contract) if options.reference else None
    return ConversionSource(model, choose_forms(model, plan.quantisations), owner)


def choose_forms(model: SourceModel, formats: Mapping[str, object]) -> dict[str, str]:
    """Choose the form for each format: the first of its converter's that the model has.

    Raises:
        BadInput: The model has none of them.
    """
    chosen = {}
    for format_name in formats:
        accepted = registry.load("converter", format_name).forms
        form = next((form for form in accepted if form in model.forms), None)
        if form is None:
            raise BadInput(
                f"{model.path} cannot become {format_name}: {importers.why_not(model, accepted)}"
            )
        chosen[format_name] = form
    return chosen
