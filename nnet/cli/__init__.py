"""The command line, logs and errors that programs share."""

from nnet.cli.options import (  # noqa: F401
    checksum_option,
    determinization_options,
    gpu_option,
    scoring_options,
    tf32_option,
)
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
