"""`facedecode transform`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from facedecode.cli.app import Overwrite, command
from facedecode.cli.checks import Input
from facedecode.cli.commands import summary
from facedecode.cli.console import Console
from facedecode.errors import UsageError


def transform(
    console: Console,
    store: Annotated[Path, typer.Argument(help="The store to read."), Input("store")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store to make.")],
    protect: Annotated[
        Literal["rotation", "biohash"] | None,
        typer.Option("--protect", help="Protect templates with a key: rotation, biohash."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The key: a file of 16 bytes or more."), Input("file")
    ] = None,
    key_to: Annotated[
        Path | None, typer.Option("--new-key", help="Make a key, write it to this new file, and use it.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="Of a biohash; as many as a template has numbers if absent.")
    ] = None,
    center: Annotated[
        Path | None,
        typer.Option("--center", help="A store of a public set: its mean is taken off before biohash."),
        Input("store"),
    ] = None,
    center_people: Annotated[
        Path | None, typer.Option("--center-people", help="Its people: a name a line, or LFW's format."), Input("file")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="Apply a map made by 'fit-mapping' instead."), Input("mapping")
    ] = None,
    disentangle: Annotated[
        Path | None,
        typer.Option("--disentangle", help="Part templates by a file made by 'train --kind disentangler' instead."),
        Input("disentangler"),
    ] = None,
    part: Annotated[
        Literal["identity"] | None, typer.Option("--part", help="Of --disentangle: identity, which is the default.")
    ] = None,
    components: Annotated[
        int | None,
        typer.Option("--components", help="Of the identity part: keep its first so many principal components only."),
    ] = None,
    dependent: Annotated[
        str | None,
        typer.Option("--dependent", help="Join the parts again, the attribute being this class, keep, or mean."),
    ] = None,
    independent: Annotated[
        str | None,
        typer.Option("--independent", help="Join them, the identity part being the mean of this class, keep, or mean."),
    ] = None,
    overwrite: Overwrite = False,
) -> tuple[dict, dict]:
    """The schemes are examples to measure, not products. The manifest names scheme and key (by an id that does not give
    it away), and what was made for other templates or another key is refused. Resumes as 'extract' does.
    """
    from facedecode.attributes.disentangler import load_disentangler
    from facedecode.mapping.maps import load_mapping
    from facedecode.store import Store
    from facedecode.store.processing import require_unprotected
    from facedecode.templates.protection import new_key, read_key, write_key
    from facedecode.templates.transformation import (
        disentanglement_operation,
        mapping_operation,
        protection_operation,
        transform_store,
    )

    if sum(choice is not None for choice in (protect, mapping, disentangle)) != 1:
        raise UsageError("give one of --protect, --mapping and --disentangle")
    if disentangle is None and any(given is not None for given in (part, dependent, independent)):
        raise UsageError("--part, --dependent and --independent go with --disentangle")
    if components is not None and (disentangle is None or dependent is not None or independent is not None):
        raise UsageError("--components are of the identity part that --disentangle gives; leave it out")
    if part not in (None, "identity"):
        raise UsageError(f"--part {part}: use identity")
    if part is not None and (dependent is not None or independent is not None):
        raise UsageError("--part gives the identity part, --dependent and --independent join both; give one of these")
    if protect is None and (key_file or key_to or bits is not None or center or center_people):
        raise UsageError("--key-file, --new-key, --bits, --center and --center-people go with --protect")
    if center_people is not None and center is None:
        raise UsageError("--center-people says whom of --center to take; give --center")
    if protect is not None and (key_file is None) == (key_to is None):
        raise UsageError("--protect takes a key: give one of --key-file and --new-key")
    if key_to and any(folder.resolve() in key_to.resolve().parents for folder in (store, output)):
        raise UsageError(f"--new-key {key_to}: lies in a store; keep the key apart from the templates")
    source = Store.open(store)
    begin = None
    if mapping is not None:
        operation = mapping_operation(source, load_mapping(mapping))
    elif disentangle is not None:
        own = load_disentangler(disentangle)
        operation = disentanglement_operation(source, own, dependent, independent, components)
    else:
        require_unprotected(source)
        public = Store.open(center) if center else None
        key = read_key(key_file) if key_file else new_key()
        operation = protection_operation(source, protect, key, bits=bits, public=public, public_people=center_people)

        def begin() -> None:
            if key_to:
                write_key(key_to, key)
                console.say(f"{key_to}: a new key, which only you can read; keep it apart from the templates")

    with console.progress() as stage:
        result = transform_store(source, output, operation, overwrite, stage("transform"), begin)
    before = f", {result.resumed} were done before" if result.resumed else ""
    console.say(f"{output}: {result.count} templates of {operation.recognizer.name}{before}")
    return {"count": result.count}, {"store": str(output), **({"key": str(key_to)} if key_to else {})}


app = command("transform", transform, summary("transform"))
