#!/usr/bin/env python3
"""Check a directory of examples, and say all that is wrong with it, a line for each problem.

It has what info/ says: so many archives, examples of such context and dimensions. All of them are
read through, and compared with the counts and checksums in info/archives where these are. Those of
Kaldi's scripts are not, and of what these made only damage that shows by itself is found.
"""

from pathlib import Path

from nnet.drivers.driver import argument, log, option, output_of, read_integer, tool
from nnet.drivers.egs_dir import (
    SUBSETS,
    check_archive,
    egs_format,
    parse_info,
    recorded_info,
    training_archive,
    training_archives,
)
from nnet.errors import NgtrainError

MOST_ARCHIVES = 100_000
NUMBERS = (
    *("num_frames", "num_archives", "frames_per_eg", "egs_per_archive"),
    *("left_context", "right_context"),
)


class EgsDirChecks:
    """The checks of one directory; `problems` is what they found."""

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        self.info: dict[str, int] = {}
        for name in [*NUMBERS, *(["ivector_dim"] if (path / "info/ivector_dim").exists() else [])]:
            try:
                self.info[name] = read_integer(path / "info" / name)
            except NgtrainError as error:
                self.problems.append(str(error))

    def archives(self) -> list[Path]:
        """The archives to train on that there should be; notes those that are left over."""
        try:
            egs_format(self.path)
        except NgtrainError as error:
            self.problems.append(str(error))
            return sorted(training_archives(self.path))
        count = self.info.get("num_archives", 0)
        if count > MOST_ARCHIVES:
            self.problems.append(f"{self.path}/info/num_archives: {count} is no number of archives")
        if not 0 < count <= MOST_ARCHIVES:
            return sorted(training_archives(self.path))
        wanted = [training_archive(self.path, number) for number in range(1, count + 1)]
        for path in sorted(set(training_archives(self.path)) - set(wanted)):
            self.problems.append(f"{path}: it is left over, as info/num_archives is {count}")
        return wanted

    def num_pdfs(self) -> int | None:
        """The number of pdf-ids, if there is a tree that says it."""
        tree = self.path / "tree"
        if not tree.exists():
            return None
        try:
            return int(parse_info(output_of("tree-info", tree))["num-pdfs"])
        except NgtrainError as error:
            self.problems.append(f"{tree}: {error}")
            return None

    def same(self, path: Path, found: dict[str, str], name: str, wanted: int, source: str) -> None:
        """All examples of an archive have the value of `name` that they should."""
        if found[name] != str(wanted):
            self.problems.append(f"{path}: {name} is {found[name]}, but {wanted} by {source}")


def check_contents(checks: EgsDirChecks, contents: dict[Path, dict[str, str]]) -> None:
    """Context, dimensions and labels are what info/ says, and the same everywhere."""
    num_pdfs = checks.num_pdfs()
    first = next(iter(contents.items()), None)
    for path, found in contents.items():
        for name in "left_context", "right_context", "ivector_dim":
            if name in checks.info:
                wanted = checks.info[name]
                checks.same(path, found, name.replace("_", "-"), wanted, f"info/{name}")
        checks.same(path, found, "input-dim", first[1]["input-dim"], first[0].name)
        most = 1 if path.name in SUBSETS else checks.info.get("frames_per_eg")
        if most is not None and int(found["frames-per-eg"].split(",")[-1]) > most:
            reason = f"examples of {found['frames-per-eg']} frames, of at most {most} expected"
            checks.problems.append(f"{path}: {reason}")
        if num_pdfs is not None and int(found["largest-pdf"]) >= num_pdfs:
            reason = f"a label of {found['largest-pdf']}, but the tree has {num_pdfs} pdf-ids"
            checks.problems.append(f"{path}: {reason}")
    total = sum(int(f["num-frames"]) for path, f in contents.items() if path.name not in SUBSETS)
    if total > checks.info.get("num_frames", total):
        reason = f"there are {total} frames of examples"
        checks.problems.append(f"{checks.path}/info/num_frames: fewer than {reason}")


@tool("""Usage:  utils/validate_egs_dir.py [--thorough=false] <egs-dir>
 e.g.: utils/validate_egs_dir.py exp/nnet/egs""")
@argument("egs_dir")
@option(
    "--thorough",
    True,
    "Read all examples; false: see only that all files are there, and of the size they had",
)
def main(egs_dir, thorough):
    path = Path(egs_dir)
    if not path.is_dir():
        raise NgtrainError(f"no such directory: {path}")
    checks = EgsDirChecks(path)
    archives = [*checks.archives(), *(path / name for name in SUBSETS)]
    contents = {}
    for archive in archives:
        found, problems = check_archive(archive, thorough)
        checks.problems += problems
        if "num-examples" in found:
            contents[archive] = found
    check_contents(checks, contents)
    unrecorded = [archive for archive in archives if not recorded_info(archive)]
    if unrecorded:
        how = "only damage that shows by itself was found" if thorough else "only that it is there"
        log.warning(
            "no counts and checksums in info/archives for %d of %d archives, such as %s: %s",
            *(len(unrecorded), len(archives), unrecorded[0].name, how),
        )
    for problem in checks.problems:
        log.error(problem)
    if checks.problems:
        return 1
    log.info("Successfully validated directory of examples %s", path)


if __name__ == "__main__":
    main()
