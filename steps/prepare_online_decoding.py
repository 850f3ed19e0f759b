#!/usr/bin/env python3
"""Put together what decoding recordings as they come in needs: the network, the extractor of
i-vectors if it was trained with them, and the options of online2-wav-nnet2-latgen-faster, in
<online-dir>/conf (Kaldi's steps/online/nnet2/prepare_online_decoding.sh).

The network must have been trained on features that are not normalized by speaker, since that cannot
be done while a speaker is speaking: --cmvn-opts '--norm-means=false'.
"""

import shutil
from pathlib import Path

from nnet.drivers.driver import Choice, argument, driver, log, option
from nnet.drivers.ivector_dirs import (
    EXTRACTOR_FILES,
    copy_files,
    estimation_options,
    write_extraction_config,
)
from nnet.drivers.programs import require_files
from nnet.io.text import write_lines
from nnet.launch.commands import read_numbers


@driver(
    "Usage:  steps/prepare_online_decoding.py [options] <lang> <nnet-dir> <online-dir>\n"
    " e.g.:  steps/prepare_online_decoding.py --extractor exp/extractor --mfcc-config \\\n"
    "          conf/mfcc.conf data/lang exp/nnet exp/nnet_online",
    writes="online_dir",
)
@argument("lang", "nnet_dir", "online_dir", type=Path)
@option("--extractor", "", "Directory of the extractor of i-vectors, if there are any")
@option("--feature-type", "mfcc", "Kind of features", type=Choice(["mfcc", "plp", "fbank"]))
@option("--mfcc-config", "conf/mfcc.conf", "Options that features were made with")
@option("--plp-config", "conf/plp.conf", "Likewise, for PLP")
@option("--fbank-config", "conf/fbank.conf", "Likewise, for filter banks")
@option("--iter", "final", "Take this model")
@estimation_options(max_count=100.0)
def main(lang, nnet_dir, online_dir, extractor, feature_type, **o):
    from nnet.cli.config_files import find_config

    features = find_config(o[f"{feature_type}_config"])
    model = nnet_dir / f"{o['iter']}.mdl"
    silence = lang / "phones/silence.csl"
    require_files(features, model, nnet_dir / "tree", lang / "phones.txt", silence)
    directory = online_dir.resolve()
    conf = directory / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, directory / "final.mdl")
    shutil.copyfile(nnet_dir / "tree", directory / "tree")
    shutil.copyfile(lang / "phones.txt", directory / "phones.txt")
    shutil.copyfile(features, conf / f"{feature_type}.conf")
    lines = [
        f"--feature-type={feature_type}", f"--{feature_type}-config={conf}/{feature_type}.conf",
        f"--endpoint.silence-phones={':'.join(map(str, read_numbers(silence)))}",
    ]  # fmt: skip
    if extractor:
        copy_files(EXTRACTOR_FILES, Path(extractor), directory / "ivector_extractor")
        ivectors = write_extraction_config(conf, directory / "ivector_extractor", o)
        lines.append(f"--ivector-extraction-config={ivectors}")
    write_lines(conf / "online_nnet2_decoding.conf", lines)
    log.info(f"created config file {conf}/online_nnet2_decoding.conf")


if __name__ == "__main__":
    main()
