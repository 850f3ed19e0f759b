"""The option shared by programs that write examples."""

from nnet.cli import option

info_dir_option = option(
    "--info-dir",
    default="",
    help="Write into this directory, for each file of examples that is written, a file of the same "
    "name that says what nnet-egs-info says of it",
)
