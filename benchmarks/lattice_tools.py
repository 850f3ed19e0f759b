#!/usr/bin/env python3
"""Time the programs for lattices: seconds of a processor that each takes for a table.

The lattices are those of the reference data, again and again under new keys.  What a
program takes for one lattice, which is mostly its start, is shown apart."""

import shlex
import tempfile
from pathlib import Path

from measure import measure, write_json

from nnet.cli import log, option, program
from nnet.io.tables import sequential_table, table_writer
from nnet.lattices.tables import COMPACT_LATTICE

NULL = "ark:/dev/null"
COMMANDS = """
lattice-copy $lats $null
lattice-scale --inv-acoustic-scale=12 $lats $null
lattice-best-path --acoustic-scale=0.1 $lats $null
lattice-1best --acoustic-scale=0.1 $lats $null
lattice-prune --acoustic-scale=0.1 --beam=4 $lats $null
lattice-depth $lats $null
lattice-to-post --acoustic-scale=0.1 $lats $null
lattice-to-nbest --acoustic-scale=0.1 --n=5 $lats $null
lattice-oracle $lats $references $null
lattice-mbr-decode --acoustic-scale=0.1 $lats $null
lattice-to-ctm-conf --acoustic-scale=0.1 $lats /dev/null
lattice-align-words-lexicon $lexicon $model $lats $null
lattice-lmrescore --lm-scale=-1 $lats $grammar $null
"""


@program(
    """\
Usage:  benchmarks/lattice_tools.py [options]
 e.g.: benchmarks/lattice_tools.py --num-lattices=10000 --json=lattice_tools.json"""
)
@option("--num-lattices", 10000, "Lattices of the table", least=1)
@option("--shared", "../shared/kaldi", "Where the reference data are")
@option("--only", "", "Programs to be timed, separated by commas; all by default")
@option("--json", "", "Write the figures into this file, too")
def main(num_lattices, shared, only, json):
    kaldi = Path(shared)
    with sequential_table(f"ark:{kaldi}/golden/lattices/lat.ark", COMPACT_LATTICE) as table:
        lattices = [lattice for _, lattice in table]
    num_arcs = sum(lattices[n % len(lattices)].num_arcs for n in range(num_lattices))
    log.info("%d lattices with %d arcs", num_lattices, num_arcs)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, count in ("lats", num_lattices), ("one", 1):
            with table_writer(f"ark:{folder}/{name}", COMPACT_LATTICE) as output:
                for n in range(count):
                    output.write(f"utt-{n:06}", lattices[n % len(lattices)])
        references = "".join(f"utt-{n:06} 3 4 5\n" for n in range(num_lattices))
        Path(folder, "references").write_text(references)
        names = {
            "$null": NULL,
            "$references": f"ark:{folder}/references",
            "$lexicon": str(kaldi / "data/lang/phones/align_lexicon.int"),
            "$model": str(kaldi / "exp/tri2_ali/final.mdl"),
            "$grammar": str(kaldi / "data/lang_test/G.fst"),
        }
        print(f"{'program':32} {'start':>7} {'all':>8} {'ms each':>8}")
        for line in COMMANDS.split("\n"):
            words = shlex.split(line)
            if not words or (only and words[0] not in only.split(",")):
                continue
            start, total = (
                measure(
                    [{**names, "$lats": f"ark:{folder}/{table}"}.get(w, w) for w in words]
                ).cpu_s
                for table in ("one", "lats")
            )
            figures[words[0]] = {"start": start, "all": total}
            each = 1000 * (total - start) / num_lattices
            print(f"{words[0]:32} {start:7.2f} {total:8.2f} {each:8.3f}", flush=True)
    if json:
        write_json(json, num_lattices=num_lattices, num_arcs=num_arcs, seconds=figures)


if __name__ == "__main__":
    main()
