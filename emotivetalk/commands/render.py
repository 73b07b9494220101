"""`emotivetalk render`: make a video of every row of a table."""

from pathlib import Path
from typing import Annotated, Any

import typer

from emotivetalk.options import EMOTION_OPTIONS, SETTINGS_OPTIONS
from emotivetalk.request import VideoSettings, show_parameters

EMBEDDED_PATIENCE_S = 400.0


@show_parameters([*EMOTION_OPTIONS, *SETTINGS_OPTIONS])
def render(
    manifest: Annotated[str, typer.Argument(help="JSONL, CSV or Parquet with a row per video: a path or URL.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the videos and results.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint folder; the default is the starter.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; by default one is started here.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Serve configuration of the service that is started; the default is serve_configs/local.yaml."
        ),
    ] = None,
    service: Annotated[
        str | None, typer.Option(help="URL of a running service to use instead of starting one.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Refuse rows whose files are outside this folder.")] = None,
    rows_at_once: Annotated[int, typer.Option(min=1, max=256, help="Rows that are rendered at the same time.")] = 6,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try rows again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row and render nothing.")] = False,
    **arguments: Any,
) -> None:
    """Make a video of every row of a table, each once, or say why not.

    A row names a portrait and audio, and may name an emotion and any setting; options are the defaults of rows without
    them. A second run skips what is done. The exit status is 1 if a row failed.

    \b
    Example:
      emotivetalk render videos.csv -o out --dry-run
      emotivetalk render videos.csv -o out --emotion happy
      emotivetalk render videos.jsonl -o out --service http://127.0.0.1:8000
    """
    import dataclasses

    from emotivetalk import bulk_rendering
    from emotivetalk.client.bulk.manifest import folder_of
    from emotivetalk.client.bulk.outputs import PRIVATE_FOLDER
    from emotivetalk.client.bulk.rows import RowRules
    from emotivetalk.client.bulk.runner import RunSettings
    from emotivetalk.embedded_service import EmbeddedService
    from emotivetalk.media.checkpoints import checkpoint_id

    defaults = {name: value for name, value in arguments.items() if not _is_default(name, value)}
    embedded = EmbeddedService(output / PRIVATE_FOLDER, checkpoint, address, rows_at_once, config)
    model = "" if service else checkpoint_id(embedded.checkpoint_folder())
    rules = RowRules(folder_of(manifest), root, defaults, model)
    if dry_run:
        from emotivetalk.bulk_check import check_rows

        status = check_rows(manifest, rules, checkpoint, service or address)
    else:
        settings = RunSettings(rows_at_once, retry_failed, keep_on_service=service is not None)
        if service is None:  # it may have to start again, which takes longer than an answer
            settings = dataclasses.replace(settings, patience_s=EMBEDDED_PATIENCE_S)
        status = bulk_rendering.render_rows(manifest, rules, output, settings, service or embedded)
    raise typer.Exit(status)


def _is_default(name: str, value: object) -> bool:
    """Tell whether an option was left out; rows then have the setting's own default."""
    field = VideoSettings.model_fields.get(name)
    return value in (None, False) if field is None else value == field.default
