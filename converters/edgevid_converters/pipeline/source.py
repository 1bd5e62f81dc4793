"""The second stage: the source model, and the form of it that each converter takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from edgevid import registry
from edgevid.errors import BadInput, EdgevidError
from edgevid.tasks.host import open_host
from edgevid_converters import importers
from edgevid_converters.acceptance.normalisations import movable_image
from edgevid_converters.acceptance.reference import OwnerOutputs, read_reference
from edgevid_converters.importers.source_model import SourceModel
from edgevid_converters.lowering.protocol import INTEGERS
from edgevid_converters.pipeline.plan import Plan


@dataclass(frozen=True)
class ConversionSource:
    """The model to convert.

    Attributes:
        model: The model, not yet loaded.
        forms: Format -> the form of the model that its converter takes.
        owner: The owner's outputs, if given.
        refused: Format -> why the model cannot become it.
    """

    model: SourceModel
    forms: Mapping[str, str]
    owner: OwnerOutputs | None
    refused: Mapping[str, EdgevidError] = field(default_factory=dict)


def read_source(plan: Plan) -> tuple[Plan, ConversionSource]:
    """Describe the model; returns the plan as far as the model can follow it, and the model.

    Raises:
        BadInput: There is no model, it cannot become any planned format, or the budget is out of
            the range of its task's metric.
        ChildFailed: The model's own runtime crashed on it.
    """
    options = plan.options
    model = importers.describe(options.model, options.contract, trusted=options.trust_model)
    plan = fit_plan(plan, model)
    options.budget.check(open_host(model.contract.task).metric)
    owner = None
    if options.reference:
        image = movable_image(model.preprocessing)
        owner = read_reference(options.reference, model.contract, image)
    forms: dict[str, str] = {}
    refused: dict[str, EdgevidError] = {}
    for format_name in plan.quantisations:
        try:
            if plan.as_it_is:
                check_stays(model, format_name)
            forms |= choose_forms(model, [format_name])
        except BadInput as error:
            refused[format_name] = error
    if not forms:
        raise next(iter(refused.values()))
    others = " ".join(f"-f {name}" for name in forms)
    refused = {n: BadInput(f"{e}, or leave {n} out: {others}") for n, e in refused.items()}
    return plan, ConversionSource(model, forms, owner, refused)


def fit_plan(plan: Plan, model: SourceModel) -> Plan:
    """Plan for a model that is quantised already what it is, in each format.

    Raises:
        BadInput: Another quantisation is asked for.
    """
    own, options = model.quantised, plan.options
    if own not in INTEGERS:
        return plan
    remedy = f"leave out --quantize, or give the float model that {model.path.name} was made from"
    if any(name != own for name in options.quantize or ()):
        raise BadInput(f"{model.path} is quantised already ({own}), and stays so; {remedy}")
    return replace(plan, quantisations=dict.fromkeys(plan.quantisations, (own,)), as_it_is=True)


def check_stays(model: SourceModel, format_name: str) -> None:
    """Check that a model that is quantised already stays what it is in a format.

    Only the first of its forms is its own; in others it would not be used as it is.

    Raises:
        BadInput: It does not.
    """
    converter = registry.load("converter", format_name)
    own_form = model.form_for(converter.forms) == model.forms[0]
    if model.quantised not in converter.quantisations or not own_form:
        raise BadInput(
            f"{model.path} is quantised already ({model.quantised}), which cannot become "
            f"{format_name} as it is; give the float model that it was made from"
        )


def choose_forms(model: SourceModel, formats: Iterable[str]) -> dict[str, str]:
    """Choose the form for each format: the first of its converter's that the model has.

    Raises:
        BadInput: The model has none of them.
    """
    chosen = {}
    for format_name in formats:
        accepted = registry.load("converter", format_name).forms
        form = model.form_for(accepted)
        if form is None:
            raise BadInput(
                f"{model.path} cannot become {format_name}: {importers.why_not(model, accepted)}"
            )
        chosen[format_name] = form
    return chosen
