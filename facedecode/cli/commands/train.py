"""`facedecode train`: the job of what it makes, chosen by --kind and --architecture, and what is said of the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from facedecode.cli.app import command, start_torch
from facedecode.cli.commands.embeddings import describe_recognizer, store_of_bare
from facedecode.cli.console import Console
from facedecode.cli.options import OneOf, Variant, make_job
from facedecode.decoders.kinds import find_kind, fitted_by
from facedecode.errors import UsageError
from facedecode.identity import RecognizerId
from facedecode.options import (
    BareRecognizerOptions,
    bare_model_option,
    device_option,
    option,
    spec_option,
    template_output_option,
)
from facedecode.training.jobs import (
    CLOSED_FORM_OPTIONS,
    NETWORK_DEFAULTS,
    ClassifierImport,
    ClassifierJob,
    DecoderJob,
    DisentanglerJob,
    LatentJob,
    RecognizerJob,
    TrainingJob,
)

if TYPE_CHECKING:  # needs torch
    from facedecode.training.decoder import DecoderPlan

Result = tuple[dict, dict]
Job = TypeVar("Job", bound=TrainingJob)


def _and(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


NETWORK = Variant(_and(fitted_by("gradients")), DecoderJob, defaults=NETWORK_DEFAULTS)
CLOSED_FORM = Variant(_and(fitted_by("closed form")), DecoderJob, only=CLOSED_FORM_OPTIONS)
LATENT = Variant("latent", LatentJob)
CLASSIFIER = Variant("classifiers", ClassifierJob)
HEAD = Variant("classifiers", ClassifierImport)
RECOGNIZER = Variant("recognizers", RecognizerJob)
DISENTANGLER = Variant("disentanglers", DisentanglerJob)
VARIANTS = (NETWORK, CLOSED_FORM, LATENT, CLASSIFIER, HEAD, RECOGNIZER, DISENTANGLER)


@dataclass(frozen=True)
class TrainOptions:
    """What to train, where, and whose templates a bare file has. --weights is an option of the jobs."""

    kind: Literal["decoder", "recognizer", "classifier", "disentangler"] = option(
        "decoder",
        "What to train: decoder, recognizer (a network that makes templates), classifier (of people, by a softmax on "
        "their templates), or disentangler (which parts templates into identity and an attribute).",
    )
    model: str | None = bare_model_option()
    spec: str | None = spec_option()
    template_output: str | None = template_output_option()
    device: str = device_option()
    dry_run: bool = option(False, "Check the inputs and say what would be done, but train nothing.")


@dataclass(frozen=True)
class Call:
    """What a call of `train` has besides the job.

    device: as the user named it.
    with_store: the job with a store in place of a bare file. This takes long: it comes after all refusals.
    recognizer: describes the recognizer of a bare file's templates; None where the job has a store.
    """

    console: Console
    device: str
    dry_run: bool
    with_store: Callable[[Any], Any]
    recognizer: Callable[[], RecognizerId] | None


def train(
    console: Console, context: typer.Context, choice: TrainOptions, options: Annotated[dict[str, Any], OneOf(VARIANTS)]
) -> Result:
    """While a decoder trains, the output folder shows the validation curve (curve.csv) and sample pictures. The same
    command resumes an interrupted run. Under torchrun, several processes train together, each on a part of every batch.

    --kind recognizer trains a network to tell the people of the store's images apart; its folder serves as --model.
    --kind classifier fits a softmax to the templates of people with enough images, and judges it on a fifth of each
    person's images. --kind disentangler fits what 'transform --disentangle' needs to part templates into identity and
    the attribute of --labels; a tenth of the people judge it.
    """
    kind, device, dry_run = choice.kind, choice.device, choice.dry_run
    variant, meaning = _chosen(kind, options["architecture"], from_head=options["from_head"] is not None)
    store, bare = options["store"], options["store"].suffix == ".npy"
    if console.ranks.count > 1 and (bare or variant is not NETWORK):
        what = f"{store} is made a store" if bare else f"{meaning} is fitted"
        raise UsageError(f"{what} in one process; start it without torchrun")
    if not bare and (choice.model or choice.spec or choice.template_output):
        raise UsageError(
            "--model, --spec and --template-output go with a bare .npy file; a store's manifest names its recognizer"
        )
    allowed = {"kind", *variant.options} | ({"architecture"} if kind == "decoder" else set())
    allowed |= {"model", "weights", "spec", "template_output", "images", "device"} if bare else set()
    allowed |= {"device"} if kind in ("decoder", "recognizer") else set()
    allowed |= {"dry_run"} if variant in (NETWORK, CLOSED_FORM, RECOGNIZER) else set()
    set_by_user = _set_by_user(context)
    _refuse_others(context, set_by_user - allowed - {"quiet", "json", "debug"}, f"go with {meaning}")
    if bare and dry_run:
        raise UsageError(f"--dry-run looks at a store; 'facedecode import' makes one of {store}")
    values = {name: options[name] for name in set_by_user & variant.options.keys()}
    images, weights = options["images"], options["weights"]
    chosen = BareRecognizerOptions(choice.model, weights, choice.spec, choice.template_output)
    if bare:
        values.pop("images", None)
        if "weights" in variant.options:
            from facedecode.recognizers.registry import recognizer_file

            values["weights"] = recognizer_file(choice.model, weights)
    if variant is NETWORK:
        values = {**NETWORK_DEFAULTS[options["architecture"]], **values}
    job = _make(variant, values, meaning)
    _refuse_idle(context, job, set_by_user)

    def with_store(job: Job) -> Job:
        if not bare:
            return job
        made = store_of_bare(console, store, images, job.output, chosen, device, options["overwrite"])
        return dataclasses.replace(job, store=made)

    def recognizer() -> RecognizerId:
        return describe_recognizer(chosen, start_torch(device))

    return _RUN[variant.job](job, Call(console, device, dry_run, with_store, recognizer if bare else None))


def _chosen(kind: str, architecture: str, from_head: bool) -> tuple[Variant, str]:
    """What to do, and the options that say so."""
    if kind == "decoder":
        variants = {"gradients": NETWORK, "closed form": CLOSED_FORM, "generator": LATENT}
        return variants[find_kind(architecture).fitting], f"--architecture {architecture} (--kind decoder)"
    if kind == "classifier":
        return (HEAD, "--from-head") if from_head else (CLASSIFIER, "--kind classifier without --from-head")
    return (RECOGNIZER if kind == "recognizer" else DISENTANGLER), f"--kind {kind}"


def _set_by_user(context: typer.Context) -> set[str]:
    """The names of the parameters that the user set."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}


def _refuse_others(context: typer.Context, names: set[str], why: str) -> None:
    """Refuse options that would be dropped silently."""
    for parameter in context.command.params:
        if parameter.name in names:
            raise UsageError(f"{parameter.opts[0]} does not {why}; leave it out")


def _refuse_idle(context: typer.Context, job: TrainingJob, set_by_user: set[str]) -> None:
    """Refuse options of a term that is off, or of another head."""
    if isinstance(job, RecognizerJob) and job.settings.head.head == "softmax":
        _refuse_others(context, {"scale", "margin"} & set_by_user, "go with a softmax head")
    if isinstance(job, DecoderJob):
        terms = job.settings.weights.of_networks()
        used = {"identity_target": terms.identity, "phi": terms.perceptual or terms.local_perceptual}
        idle = {name for name, on in {**used, "jitter": terms.any()}.items() if not on}
        _refuse_others(context, idle & set_by_user, "go with a term whose weight is 0")


def _make(variant: Variant, values: dict[str, Any], meaning: str) -> Any:
    """The job; UsageError where an option is missing that it cannot do without."""
    needed = [name for name, parameter in variant.options.items() if parameter.default is parameter.empty]
    if missing := [f"--{name.replace('_', '-')}" for name in needed if name not in values]:
        raise UsageError(f"{meaning} needs {' and '.join(missing)}; see --help")
    return make_job(variant.job, values)


def _train_decoder(job: DecoderJob, call: Call) -> Result:
    from facedecode.training.decoder import networks_of_loss, plan_training, train_store

    console = call.console
    job.check()
    device = start_torch(call.device, console.ranks)
    if call.recognizer and find_kind(job.architecture).fitting == "gradients":
        # A network that is missing, or gives no gradients, is refused before a store is made.
        networks_of_loss(job, call.recognizer(), device)
    job = call.with_store(job)
    if call.dry_run:
        return _say_plan(console, plan_training(job, device))
    with console.progress() as stage:
        decoder = train_store(job, device, stage("portraits"), stage("train"), console.ranks)
    if decoder is None:
        return {}, {}
    record = decoder.provenance.training
    console.say(f"{job.output}: {decoder.kind} decoder, {record.images} images of {len(record.people)} people")
    last = (record.curve or [{}])[-1]
    return {k: v for k, v in last.items() if k != "step"}, {"decoder": str(job.output)}


def _say_plan(console: Console, plan: DecoderPlan) -> Result:
    """What a training would come to, in a line and as metrics."""
    people = len({row["identity"] for row in plan.rows} - {None})
    counts = {"images": len(plan.rows), "people": people, "held_out": int(plan.held_out.sum()), "steps": plan.steps}
    how = ", fitted at once"
    if not plan.closed:
        how = f", {counts['held_out']} of the images held out; {plan.steps} steps of {plan.settings.batch_size}"
        how += f" through {', '.join(network.name for network in plan.phi)}" if plan.phi else ""
    console.say(
        f"{plan.job.architecture} of {plan.settings.image_size} px on {counts['images']} images of {people} "
        f"people{how}; would go to {plan.job.output}"
    )
    return counts, {}


def _train_latent(job: LatentJob, call: Call) -> Result:
    from facedecode.training.latent import train_latent

    console, job = call.console, call.with_store(job)
    with console.progress() as stage:
        decoder = train_latent(job, start_torch(call.device), stage("generate"))
    record = decoder.provenance.training
    console.say(
        f"{job.output}: latent decoder, fitted to {record.images} of {job.samples} generated pictures; templates "
        f"held out explain {record.figures['r2']:.1%} of the latents' variance"
    )
    if record.people is None:
        console.say("the record lacks the people of the generator's training (--people): evaluations will refuse it")
    return record.figures, {"decoder": str(job.output)}


def _train_recognizer(job: RecognizerJob, call: Call) -> Result:
    from facedecode.training.recognizer import plan_recognizer, train_recognizer

    console, settings = call.console, job.settings
    settings.check()
    device, job = start_torch(call.device), call.with_store(job)
    if call.dry_run:
        plan = plan_recognizer(job)
        counts = {"classes": len(plan.classes), "images": len(plan.images.rows), "steps": plan.steps}
        console.say(
            f"{settings.backbone} recognizer of {counts['classes']} people, {counts['images']} images with those held "
            f"out; {plan.steps} steps of {settings.batch_size}; would go to {job.output}"
        )
        return counts, {}
    with console.progress() as stage:
        record = train_recognizer(job, device, stage("crops"), stage("train"))
    named, verified = record["classification"], record["verification"]
    others = "nobody held out to verify"
    if verified["eer"] is not None:
        others = f"EER {verified['eer']:.1%} on {verified['people']} others"
    console.say(
        f"{job.output}: {settings.head.head} recognizer of {record['classes']} people, {record['training_images']} "
        f"images; accuracy {named['accuracy']['value']:.1%} on {named['images']} images held out; {others}"
    )
    metrics = {name: record[name] for name in ("classes", "training_images", "classification", "verification", "steps")}
    return metrics, {"recognizer": str(job.output)}


def _train_classifier(job: ClassifierJob, call: Call) -> Result:
    from facedecode.classifiers.fit import fit_store_classifier
    from facedecode.classifiers.softmax import Head
    from facedecode.store import Store

    console, head = call.console, Head(job.head, job.l2, job.scale)
    job = call.with_store(job)
    with console.progress() as stage:
        classifier = fit_store_classifier(
            Store.open(job.store),
            job.output,
            people=job.people,
            exclude=job.exclude,
            min_images=job.min_images,
            head=head,
            overwrite=job.overwrite,
            progress=stage("fit"),
        )
    report = classifier.report
    largest = report["largest_class"]
    console.say(
        f"{job.output}: {classifier.head} classifier of {report['classes']} people, trained on "
        f"{report['training_images']} images; accuracy {_percent(report['accuracy'])} on {report['held_out_images']} "
        f"held out (chance {report['chance']:.1%}; always {largest['name']}: {largest['share']:.1%})"
    )
    return _without(report, "training_images", "held_out_images"), {"classifier": str(job.output)}


def _import_classifier(job: ClassifierImport, call: Call) -> Result:
    from facedecode.classifiers.fit import import_store_classifier
    from facedecode.classifiers.softmax import Head
    from facedecode.store import Store

    scale = Head(job.head, None, job.scale).scale
    job = call.with_store(job)
    classifier = import_store_classifier(
        Store.open(job.store), job.from_head, job.names, job.output, scale=scale, overwrite=job.overwrite
    )
    report = classifier.report
    judged = "the store has no image of its classes to judge it on"
    if report["images"]:
        judged = f"accuracy {_percent(report['accuracy'])} on the store's {report['images']} images of its classes"
    call.console.say(f"{job.output}: {classifier.head} classifier of {report['classes']} classes; {judged}")
    return _without(report, "training_images", "held_out_images"), {"classifier": str(job.output)}


def _train_disentangler(job: DisentanglerJob, call: Call) -> Result:
    from facedecode.annotations.labels import read_image_labels
    from facedecode.attributes.disentangler_fit import fit_store_disentangler
    from facedecode.store import Store

    console, job = call.console, call.with_store(job)
    store = Store.open(job.store)
    labels = read_image_labels(job.labels, job.label, store)
    if line := labels.note():
        console.say(line)
    with console.progress() as stage:
        disentangler = fit_store_disentangler(
            store,
            job.output,
            labels,
            people=job.people,
            exclude=job.exclude,
            overwrite=job.overwrite,
            progress=stage("judge"),
        )
    report = disentangler.report
    people = " and ".join(f"{count} of {name}" for name, count in report["training_people"].items())
    judged = "nobody held out to judge it"
    if report["told"]:
        judged = f"accuracy {_percent(report['told'])} on people held out"
    console.say(f"{job.output}: disentangler of {job.label}, fitted to people ({people}); {judged}")
    for probe, accuracy in (report["probes"] or {}).items():
        console.say(
            f"accuracy of a {probe} probe on people held out: {_percent(accuracy['template'])} from templates, "
            f"{_percent(accuracy['identity'])} from identity parts (chance 50.0%)"
        )
    return _without(report, "people"), {"disentangler": str(job.output)}


def _without(report: dict, *names: str) -> dict:
    """A report without these lists of its provenance: they are in the file."""
    return report | {"provenance": {k: v for k, v in report["provenance"].items() if k not in names}}


def _percent(estimate: dict) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.1%}"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"


_RUN: dict[type, Callable[[Any, Call], Result]] = {
    DecoderJob: _train_decoder,
    LatentJob: _train_latent,
    RecognizerJob: _train_recognizer,
    ClassifierJob: _train_classifier,
    ClassifierImport: _import_classifier,
    DisentanglerJob: _train_disentangler,
}
app = command("train", train, several=True)
