"""`python -m vae_lightning`: check the command line, compose the configuration, train."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae_lightning import command_line, resume
from vae_lightning.errors import ConfigError, UserError
from vae_lightning.paths import CONF

log = logging.getLogger("vae_lightning")


def main() -> None:
    """The console script `vae-lightning`. Ends with 0, 1 (a run failed) or 2 (the command line cannot work)."""
    try:
        sys.argv[1:] = resume.expand(sys.argv[1:])
        flags, overrides = command_line.split(sys.argv[1:])
        custom = flags.config_path or flags.config_name or flags.hydra_help
        searchpath = [str(Path(flags.config_dir).absolute())] if flags.config_dir else []
        wrong = [] if custom else command_line.check(overrides, searchpath, flags.multirun)
    except ConfigError as error:
        wrong = [str(error)]
    if wrong:
        count = "one problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        print(f"vae_lightning: {count}, nothing was run", *wrong, sep="\n  ", file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    exit_codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(config: DictConfig) -> Any:
        from vae_lightning.train import train

        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            return train(config, dict(hydra_config.runtime.choices), folder)
        except UserError as error:
            log.error("%s", error)
            exit_codes.append(error.exit_code)
            if isinstance(error, ConfigError) and not (folder / "checkpoints").exists():
                shutil.rmtree(folder, ignore_errors=True)
            return float("nan")

    job()
    sys.exit(max(exit_codes, default=0))


if __name__ == "__main__":
    main()
