"""The commands and their options. Imports of more than the standard library and Typer stay inside the commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orchestrator import terminal
from orchestrator.cli.compare import compare
from orchestrator.cli.fits import fits
from orchestrator.cli.regrade import regrade
from orchestrator.cli.typed import command
from orchestrator.errors import EXIT_DONE, EXIT_FAILURES, EXIT_STOPPED, lines_of

if TYPE_CHECKING:
    from orchestrator.sweep import SweepResult

app = typer.Typer(
    help="Sweeps over GGUF models: which quant fits, which is good enough, how fast it is, by running what it wrote.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

QUICKSTART: Final = "quickstart"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MeasuredOption = Annotated[
    list[Path] | None,
    typer.Option("--measured", metavar="RUN", help="A run that predicted rates learn from; may be given again."),
]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        terminal.stdout().page(f"quantsweep {version('quantsweep')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="A TOML file, or the name of a built-in sweep, such as quickstart.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder. Default: runs/<name of the sweep>.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="A Ray cluster to run on, HOST:PORT or auto. Default: this machine alone."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also run again the jobs that the infrastructure failed.")
    ] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option("--reuse", metavar="RUN", help="Take equal jobs from this other run; may be given again."),
    ] = None,
) -> None:
    """Run a sweep, or go on with one that was stopped."""
    from orchestrator.rundir import default_folder
    from orchestrator.sweep import open_spec, run_sweep

    source = open_spec(spec)
    folder = out or default_folder(source.spec.name)
    err = terminal.stderr()
    given = [*(["--out", str(out)] if out else []), *(["--address", address] if address else [])]
    given += [word for run_folder in reuse or () for word in ("--reuse", str(run_folder))]
    again = command("run", spec, *given)
    try:
        result = run_sweep(source, out_dir=folder, address=address, retry_failed=retry_failed, reuse=reuse or ())
    except KeyboardInterrupt:  # before the driver takes signals, or after it
        err.say("", "stopped", f"What is done is kept. To go on: {again}")
        raise typer.Exit(EXIT_STOPPED) from None
    for label, reasons in result.unplaced.items():
        err.say(f"not run: {label}: no node can serve it: {'; '.join(reasons) or 'there is no node with its engine'}")
    for label, reasons in result.left_out.items():
        err.say(f"left out: {label} fits no node: {'; '.join(reasons)}")
    if result.trouble or result.interrupted:
        if result.trouble:
            err.complain(*lines_of(result.trouble))
        else:
            err.say("stopped")
        err.say(f"{_how_far(result)} done and kept. To go on: {again}")
        raise typer.Exit(EXIT_STOPPED)
    from orchestrator.commands.show import report_of_run
    from results.figures import count

    terminal.stdout().page(*report_of_run(folder, planned=result.jobs).parts())
    err.say("", f"results: {folder / 'attempts'}", f"To see it again: {command('show', folder)}")
    if not result.complete:
        err.say(f"{_how_far(result)} done. To go on: {again}")
    if result.failed:
        failed = count(result.failed, "job")
        err.say(f"{failed} without a score (the infrastructure failed). To retry: {again} --retry-failed")
    if spec == QUICKSTART:
        err.say(*_first_steps(folder))
    raise typer.Exit(EXIT_DONE if result.complete and not result.failed else EXIT_FAILURES)


def _how_far(result: SweepResult) -> str:
    from results.figures import plural

    return f"{result.done} of {result.jobs} {plural(result.jobs, 'job')} {'is' if result.jobs == 1 else 'are'}"


def _first_steps(folder: Path) -> list[str]:
    """What somebody types next who has only seen the quickstart, as it has to be typed here."""
    own = "my-sweep.toml"
    return [
        f"The models that have a short name: {command('models')}",
        f"To run your own, copy the spec of this run: {shlex.join(['cp', str(folder / 'spec.toml'), own])}",
        f"Give it another name, name your models in it, and see what it would run: {command('plan', own)}",
        f"Then: {command('run', own)}",
    ]


@app.command(short_help="Show what a sweep would run, and whether it fits. Runs nothing.")
def plan(
    spec: Annotated[str, typer.Argument(help="A TOML file, or the name of a built-in sweep.")],
    address: Annotated[
        str | None,
        typer.Option("--address", help="A Ray cluster to plan for, HOST:PORT or auto. Default: this machine alone."),
    ] = None,
    measured: MeasuredOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep would run: cells, jobs, files, and whether this machine can serve them. Runs nothing."""
    from orchestrator.preview import preview

    terminal.stdout().page(*preview(spec, as_json=as_json, address=address, measured=measured or ()))


@app.command(short_help="Print the tables of a run, what was lost in it, or one job.")
def show(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart.")],
    *,
    failures: Annotated[
        bool, typer.Option("--failures", help="What lost points or failed, most frequent first, with the jobs.")
    ] = False,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="ID", help="One job: reply, grade, timings. The beginning of its id will do."),
    ] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Measured decode rates beside those that would have been predicted.")
    ] = False,
    measured: MeasuredOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the tables of a run, while it runs or afterwards; or what was lost in it, or one of its jobs."""
    if failures + (job is not None) + predicted > 1:
        raise typer.BadParameter("give one of --failures, --job and --predicted")
    if measured and not predicted:
        raise typer.BadParameter("--measured is for --predicted: runs that predictions may learn from")
    out = terminal.stdout()
    if predicted:
        from orchestrator.commands.predicted import predicted_of_runs

        out.page(*predicted_of_runs(folder, measured or (), as_json=as_json))
        return
    if job is not None:
        from orchestrator.commands.job import job_of_run

        out.page(*job_of_run(folder, job, as_json=as_json))
        return
    if failures:
        from orchestrator.commands.failures import failures_of_run

        out.page(*failures_of_run(folder, as_json=as_json, again=command("show", folder, "--job")))
        return
    from orchestrator.commands.show import report_of_run

    found = report_of_run(folder)
    out.page(*([terminal.Json(found.to_json())] if as_json else found.parts()))


exams_app = typer.Typer(help="List the exams, or prove a grader.", invoke_without_command=True, no_args_is_help=False)
app.add_typer(exams_app, name="exams")


@exams_app.callback()
def exams(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the exams, or prove a grader."""
    if context.invoked_subcommand is None:
        from orchestrator.commands.exams import list_exams

        terminal.stdout().page(*list_exams(as_json=as_json))


@exams_app.command("check")
def exams_check(
    name: Annotated[str, typer.Argument(metavar="EXAM", help="An exam such as todo, or the folder of one: ./my-exam.")],
    as_json: JsonOption = False,
) -> None:
    """Prove a grader: its reference scores full, nothing scores nothing, mutants lose, cheats gain nothing."""
    from orchestrator.commands.exams import check

    parts, ok = check(name, as_json=as_json)
    terminal.stdout().page(*parts)
    raise typer.Exit(EXIT_DONE if ok else EXIT_FAILURES)


@exams_app.command("new")
def exams_new(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="The folder to make, named as the exam: my-exam.")],
    language: Annotated[
        str, typer.Option(help="What answers are written in: python, javascript, c, c++, rust or go.")
    ] = "python",
    grader: Annotated[
        str,
        typer.Option(
            help="What grades: tests (in exam.toml), command (files/try.py, in the sandbox), python (grader.py)."
        ),
    ] = "tests",
) -> None:
    """Make the folder of an exam of your own: one that runs, to be changed from there."""
    from orchestrator.commands.exams import new

    terminal.stdout().page(*new(folder, language=language, form=grader))


app.command(short_help="Show which quants fit which cards; only headers are read.")(fits)
app.command(short_help="Hold two runs, or a run and a published report, against each other.")(compare)
app.command(short_help="Grade the saved answers of a run again; no GPU, no model.")(regrade)


@app.command(short_help="Show machines: devices, memory, engines, tools, and trouble.")
def nodes(
    address: Annotated[
        str | None,
        typer.Option("--address", help="Every machine of this Ray cluster, HOST:PORT or auto. Default: this machine."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show machines: devices, memory, engines, tools, and what would spoil a measurement."""
    from orchestrator.commands.nodes import show_nodes

    terminal.stdout().page(*show_nodes(address=address, as_json=as_json))


@app.command(short_help="Try every engine on every device here, and say what is off.")
def doctor(as_json: JsonOption = False) -> None:
    """Try this machine as sweeps would use it: every engine on every device, counters, the sandbox, the exams."""
    from orchestrator.doctor.examine import examine
    from orchestrator.doctor.report import page

    diagnosis = examine(lambda line: terminal.stderr().say(f"{line} ..."))
    terminal.stdout().page(*page(diagnosis, as_json=as_json))
    raise typer.Exit(EXIT_FAILURES if diagnosis.off else EXIT_DONE)


@app.command()
def cards(
    word: Annotated[str | None, typer.Argument(help="A part of the name, such as 5090.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the cards that are known, with their memory and bandwidth."""
    from orchestrator.commands.nodes import show_cards

    terminal.stdout().page(*show_cards(word, as_json=as_json))


@app.command(short_help="List the models that have a short name, for a spec or for fits.")
def models(
    word: Annotated[str | None, typer.Argument(help="A name, or a part of one, such as qwen3.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that have a short name, and what to write into a spec for each."""
    from orchestrator.commands.models import show_models

    terminal.stdout().page(*show_models(word, as_json=as_json))


if __name__ == "__main__":
    sys.exit("run `quantsweep`, or `python -m orchestrator`")
