#!/usr/bin/env python3
"""Copy a data directory, giving its utterances and speakers a prefix or a suffix.

Recordings keep their names.  With a prefix or suffix for utterances, utt2uniq says what each was.
"""

from nnet.drivers.data_dir import DataDir, require_other_dir
from nnet.drivers.driver import argument, driver, log, option


@driver("""Usage:  utils/copy_data_dir.py [options] <src-data-dir> <dest-data-dir>
 e.g.: utils/copy_data_dir.py --spk-prefix 1- --utt-prefix 1- data/train data/train_1""")
@argument("src_data_dir", "dest_data_dir")
@option("--utt-prefix", "", "Prefix of utterances")
@option("--utt-suffix", "", "Suffix of utterances")
@option("--spk-prefix", "", "Prefix of speakers")
@option("--spk-suffix", "", "Suffix of speakers")
def main(src_data_dir, dest_data_dir, utt_prefix, utt_suffix, spk_prefix, spk_suffix):
    require_other_dir(src_data_dir, dest_data_dir)
    copy = DataDir.read(src_data_dir).rename(
        utterance=lambda name: utt_prefix + name + utt_suffix,
        speaker=lambda name: spk_prefix + name + spk_suffix,
    )
    copy.write(dest_data_dir)
    copy.say_what_is_left_out(src_data_dir)
    log.info("copied data from %s to %s", src_data_dir, dest_data_dir)


if __name__ == "__main__":
    main()
