"""Groups of settings about where and how slides are measured; none changes a result."""

from __future__ import annotations

from pydantic import Field

from histoquant.setting_groups import Group


class BatchSettings(Group):
    """How the slides of a study are measured side by side. No value here changes a result."""

    time_limit_min: float = Field(
        120.0,
        gt=0,
        description="A slide that takes longer (minutes) is stopped and fails alone, so that one "
        "that hangs holds nothing up. `--retry-failed` tries it again.",
    )
    memory_limit_gb: float | None = Field(
        None,
        gt=0,
        description="A slide whose process holds more memory (GB) is stopped and fails alone. "
        "Unset: no limit but the machine's.",
    )
    attempts: int = Field(
        2,
        ge=1,
        le=10,
        description="How often a slide is begun in one run when its process dies (crash in a "
        "codec, out of memory, killed).",
    )
    threads_per_slide: int = Field(
        1, ge=1, le=64, description="Threads for the blocks of one slide."
    )
    labels: bool = Field(
        False,
        description="Keep nuclei and compartments as OME-Zarr labels too (labels.ome.zarr of each "
        "slide; `--labels`). Nuclei are found a second time for it.",
    )


class SlurmSettings(Group):
    """Jobs of `batch --scheduler slurm`, through dask-jobqueue. No value changes a result."""

    queue: str = Field("", description="Partition. Unset: the cluster's own default.")
    account: str = Field("", description="Account the jobs are charged to, where one is needed.")
    walltime_min: int = Field(
        240,
        ge=3,
        description="Wall time of a job (minutes). Its worker ends itself in good time before.",
    )
    memory_gb: float = Field(
        4.0, gt=0, description="Memory of a job (GB); `batch --dry-run` estimates what is needed."
    )
    cores: int = Field(
        1, ge=1, description="Cores of a job: slides side by side x batch.threads_per_slide."
    )
    interface: str = Field(
        "",
        description="Network interface that workers reach this machine by, such as ib0 or eth0 "
        "(lo where all is one machine). Unset: dask's own choice.",
    )
    min_jobs: int = Field(
        0, ge=0, description="Jobs kept even when idle; up to --workers slides run side by side."
    )
    lines: tuple[str, ...] = Field(
        (), description='More #SBATCH lines, such as ["--constraint=avx2"].'
    )
    prologue: tuple[str, ...] = Field(
        (), description='Shell lines before a worker starts, such as ["module load python"].'
    )
    log_directory: str = Field("", description="Where the jobs' output goes. Unset: nowhere.")
