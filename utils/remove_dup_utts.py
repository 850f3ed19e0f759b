#!/usr/bin/env python3
"""Make a data directory in which no transcript comes more than <max-count> times.

Of the utterances with the same transcript the first ones are kept.  This is for the start of
training, where "yeah" and "right" would outweigh all other words.
"""

from collections import Counter

from nnet.drivers.data_dir import DataDir, require_other_dir
from nnet.drivers.driver import argument, driver, log


@driver("""Usage:  utils/remove_dup_utts.py <max-count> <src-data-dir> <dest-data-dir>
 e.g.: utils/remove_dup_utts.py 100 data/train_10k data/train_10k_nodup""")
@argument("max_count", type=int)
@argument("src_data_dir", "dest_data_dir")
def main(max_count, src_data_dir, dest_data_dir):
    require_other_dir(src_data_dir, dest_data_dir)
    data = DataDir.read(src_data_dir)
    seen: Counter[str] = Counter()
    kept = set()
    for utterance, transcript in sorted(data["text"].items()):
        seen[transcript] += 1
        if seen[transcript] <= max_count:
            kept.add(utterance)
    subset = data.select(kept)
    subset.write(dest_data_dir)
    subset.say_what_is_left_out(src_data_dir)
    log.info(f"kept {len(kept)} of {len(data['text'])} utterances")


if __name__ == "__main__":
    main()
