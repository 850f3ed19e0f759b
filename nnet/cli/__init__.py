"""The command line, logs and errors that programs share."""

from nnet.cli.options import checksum_option, gpu_option, tf32_option  # noqa: F401
from nnet.cli.program import (  # noqa: F401 - for the programs
    Choice,
    Program,
    argument,
    click,
    help_row,
    integer,
    log,
    option,
    program,
    read_config,
    real,
)
