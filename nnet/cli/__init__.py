"""The command line, logs and errors that programs share."""

from nnet.cli.program import (  # noqa: F401 - for the programs
    Choice,
    Program,
    argument,
    checksum_option,
    click,
    gpu_option,
    help_row,
    integer,
    log,
    option,
    program,
    read_config,
    real,
    tf32_option,
)
