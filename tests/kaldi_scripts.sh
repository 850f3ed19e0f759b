#!/usr/bin/env bash
# Run the scripts of Kaldi's steps/nnet2, unmodified, with only this project's programs, and print a table.
#
# Usage: tests/kaldi_scripts.sh <egs/wsj/s5-of-Kaldi> [<script> ...]
#
# Of Kaldi its scripts are needed alone: the folders steps, utils and (for one trial) local of a copy
# of egs/wsj/s5; no program of it is on the PATH. Data are those of ../shared/kaldi or $NGTRAIN_SHARED/kaldi, every
# fortieth utterance, and networks are small. The folder of the run is $KALDI_SCRIPTS_DIR if given (it
# stays, and what has run there is not run again), else a temporary one. A row of the table has the
# script, ran or failed, its seconds, and the last thing that was said where it failed. Command lines
# of programs are noted in the folder's file calls, of which tests/support/kaldi_calls.py makes the
# table of a test.
set -u
[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \?//p' "$0"; exit 1; }
root=$(cd "$(dirname "$0")/.." && pwd)
kaldi=$(cd "$1" && pwd) || exit 1
shift
shared=${NGTRAIN_SHARED:-$root/../shared}
dir=${KALDI_SCRIPTS_DIR:-$(mktemp -d)}
mkdir -p "$dir/s5" && cd "$dir/s5" || exit 1

make_s5() {
  ln -sfn "$(cd "$shared" && pwd)" ../shared
  ln -sfn "$kaldi/steps" steps; ln -sfn "$kaldi/utils" utils
  mkdir -p log conf exp data/train data/test local
  printf '%s\n' --sample-frequency=8000 --num-mel-bins=24 --dither=0 > conf/fbank.conf
  printf '%s\n' '#!/bin/bash' 'exit 0' > local/score.sh; chmod +x local/score.sh
  . ./path.sh
  local part every
  for part in train test; do
    every=35; [ $part = test ] && every=100
    for file in feats.scp wav.scp utt2spk text; do
      awk "NR % $every == 1" "../shared/kaldi/data/$part/$file" > data/$part/$file
    done
    utils/utt2spk_to_spk2utt.pl data/$part/utt2spk > data/$part/spk2utt
    cp "../shared/kaldi/data/$part/cmvn.scp" data/$part/
  done
  cp -rL ../shared/kaldi/data/lang data/; chmod -R u+w data/lang
  [ -f data/lang/G.fst ] || cp ../shared/kaldi/data/lang_test/G.fst data/lang/
  # One job: the subset would be split elsewhere than the alignments.
  mkdir -p exp/ali
  cp ../shared/kaldi/exp/tri2_ali/{final.mdl,final.mat,tree,phones.txt,splice_opts,cmvn_opts} exp/ali
  gunzip -c ../shared/kaldi/exp/tri2_ali/ali.{1,2}.gz | gzip > exp/ali/ali.1.gz
  echo 1 > exp/ali/num_jobs
  cp -rL ../shared/kaldi/exp/tri2/graph exp/
  chmod -R u+w exp
}
make_recorders() { # the programs once more, which note how they are called first
  mkdir -p ../recorders
  cat > ../record <<END
#!/usr/bin/env bash
line=\${0##*/}
[ \$# = 0 ] || { printf -v words ' %q' "\$@"; line+=\$words; }
echo "\$line" >> $dir/calls
exec $root/bin/\${0##*/} "\$@"
END
  chmod +x ../record
  local program
  for program in "$root"/bin/*; do
    [ -f "$program" ] && ln -sf ../record "../recorders/${program##*/}"
  done
}
make_recorders
echo "export PATH=$dir/recorders:$root/.venv/bin:$root/bin:$dir/s5/utils:/usr/bin:/bin LC_ALL=C OMP_NUM_THREADS=1" > path.sh
[ -f exp/ali/num_jobs ] || make_s5
. ./path.sh
wanted=" $* "

run() { # <script> <command> ...: try a script, unless it has run
  local name=$1; shift
  [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return
  local log=log/${name//\//.}
  if ! grep -q "^ran" "$log.result" 2>/dev/null; then
    local start=$SECONDS status
    timeout "${TIMEOUT:-900}" "$@" > "$log.log" 2>&1 < /dev/null
    status=$?
    if [ $status = 0 ]; then echo "ran $((SECONDS - start))"
    else echo "failed $((SECONDS - start)) $(reason $status "$log.log")"; fi > "$log.result"
  fi
  show "$name" "$log.result"
}

reason() { # <status> <log>: the first complaint of a program, or else the last line of a script
  [ "$1" = 124 ] && { echo "took too long"; return; }
  local file
  file=$(grep -o '[^ ]*\.log' "$2" | tail -1); file=${file//\*/1}
  grep -h -m 1 'command not found\|ERROR (' "$2" ${file:+$file} 2>/dev/null | head -1 | grep . ||
    grep -v '^#\|^$' "$2" | tail -1
}

show() { # <script> <its result>
  local outcome seconds why
  read -r outcome seconds why < "$2"
  printf '| %s | %s | %s | %s |\n' "$1" "$outcome" "$seconds" "$why"
}

echo "| script of steps/nnet2, or of steps | | s | |"; echo "|---|---|---|---|"

# Networks of two small layers, and as few iterations as the scripts allow.
egs=(--num-utts-subset 6 --num-frames-diagnostic 100)
common=(--cmd run.pl --add-layers-period 1 --minibatch-size 64 --mix-up 150 --cleanup false)
layers=(--num-hidden-layers 2)
pnorm=("${layers[@]}" --pnorm-input-dim 60 --pnorm-output-dim 20)
old=("${common[@]}" --num-threads 2 --num-jobs-nnet 2 --num-epochs 2 --num-epochs-extra 1
  --samples-per-iter 1000 --egs-opts "${egs[*]}")
simple=("${common[@]}" --num-threads 1 --num-jobs-nnet 2 --num-epochs 6 --samples-per-iter 1000
  --egs-opts "${egs[*]}" --prior-subset-size 300 --combine-num-threads 1)
longer=("${simple[@]}" --num-epochs 12)  # with iterations after mixing up, which are combined
accel=("${common[@]}" --num-threads 1 --num-jobs-initial 1 --num-jobs-final 2 --num-epochs 5
  --samples-per-iter 1000 --egs-opts "${egs[*]}" --prior-subset-size 300 --combine-num-threads 1)
few=(--num-epochs 4)  # as few as leave iterations after mixing up, of which one at least is combined
splice=(--splice-indexes "layer0/-2:-1:0:1:2 layer1/-1:1")
in=(data/train data/lang exp/ali)
extractor=../shared/kaldi/golden/ivector
online=(--feat-type raw --online-ivector-dir exp/ivectors --cmvn-opts "--norm-means=false --norm-vars=false")
steps=steps/nnet2

# What scripts take as given
make_nnet1() { # a network of nnet1 with one layer
  mkdir -p exp/nnet1; cp exp/ali/{final.mdl,tree,phones.txt} exp/nnet1
  local ones zeros
  ones=$(printf '1 %.0s' {1..128}); zeros=$(printf '0 %.0s' {1..13})
  echo "<Nnet> <AddShift> 13 13 <LearnRateCoef> 0 [ $zeros] </Nnet>" > exp/nnet1/final.feature_transform
  { echo "<Nnet> <AffineTransform> 128 13 <LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0 ["
    for _ in {1..127}; do echo " $zeros"; done; echo " $zeros] [ $ones]"
    echo "<Softmax> 128 128 </Nnet>"; } > exp/nnet1/final.nnet
  echo " [ $ones]" > exp/nnet1/ali_train_pdf.counts
}
make_nnet1
make_layer_onto() { # a network of one layer that takes what another one's last hidden layer gives
  mkdir -p exp/onto; cp exp/ali/tree exp/onto
  printf '%s\n' 'AffineComponent input-dim=20 output-dim=128 learning-rate=0.01' 'SoftmaxComponent dim=128' > exp/onto/config
  nnet-init exp/onto/config - | nnet-am-init exp/ali/tree data/lang/topo - exp/onto/final.mdl
}
# Its LDA takes lists that only get_egs.sh, which it calls later, makes.
with_lists() { mkdir -p "$1"; cp exp/old/{valid,train_subset}_uttlist "$1" 2> /dev/null; }

# Examples and transforms
run get_num_frames.sh $steps/get_num_frames.sh data/train
run get_egs.sh $steps/get_egs.sh --cmd run.pl "${egs[@]}" --num-jobs-nnet 2 --samples-per-iter 1000 "${in[@]}" exp/old
run get_egs2.sh $steps/get_egs2.sh --cmd run.pl "${egs[@]}" --samples-per-iter 1000 data/train exp/ali exp/egs2
run get_lda.sh $steps/get_lda.sh --cmd run.pl "${in[@]}" exp/lda
with_lists exp/lda_block
run get_lda_block.sh $steps/get_lda_block.sh --cmd run.pl "${in[@]}" exp/lda_block
mkdir -p exp/configs
run make_multisplice_configs.py $steps/make_multisplice_configs.py --splice-indexes "${splice[1]}" --total-input-dim 13 \
  --ivector-dim 0 --lda-mat exp/lda/lda.mat --lda-dim 65 --num-hidden-layers 2 "${pnorm[@]}" --num-targets 128 \
  --online-preconditioning-opts "alpha=4.0" --initial-learning-rate 0.01 --bias-stddev 0.5 configs exp/configs
printf '%s\n' --sample-frequency=8000 --use-energy=false > conf/mfcc.conf
run online/nnet2/extract_ivectors_online.sh steps/online/nnet2/extract_ivectors_online.sh --cmd run.pl --nj 2 \
  data/train $extractor exp/ivectors
run get_perturbed_feats.sh $steps/get_perturbed_feats.sh --cmd run.pl --nj 2 --num-copies 3 \
  conf/fbank.conf exp/perturbed/feats exp/perturbed data/train data/train_perturbed

# Training
run train_tanh.sh $steps/train_tanh.sh "${old[@]}" "${layers[@]}" --hidden-layer-dim 30 "${in[@]}" exp/tanh
run train_tanh_fast.sh $steps/train_tanh_fast.sh "${old[@]}" "${layers[@]}" --hidden-layer-dim 30 "${in[@]}" exp/tanh_fast
run train_tanh_bottleneck.sh $steps/train_tanh_bottleneck.sh "${old[@]}" "${layers[@]}" --hidden-layer-dim 30 --bottleneck-dim 10 \
  "${in[@]}" exp/tanh_bottleneck
run train_pnorm.sh $steps/train_pnorm.sh "${old[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm
run train_pnorm_fast.sh $steps/train_pnorm_fast.sh "${old[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm_fast
run train_pnorm_bottleneck_fast.sh $steps/train_pnorm_bottleneck_fast.sh "${old[@]}" "${pnorm[@]}" --bottleneck-dim 10 \
  "${in[@]}" exp/pnorm_bottleneck
run train_pnorm_ensemble.sh $steps/train_pnorm_ensemble.sh "${old[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm_ensemble
with_lists exp/block
run train_block.sh $steps/train_block.sh "${old[@]}" --hidden-layer-dim 30 "${in[@]}" exp/block
run train_pnorm_simple.sh $steps/train_pnorm_simple.sh "${longer[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm_simple
run train_pnorm_simple2.sh $steps/train_pnorm_simple2.sh "${simple[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm_simple2
run train_pnorm_multisplice.sh $steps/train_pnorm_multisplice.sh "${longer[@]}" --num-epochs 8 "${pnorm[@]}" "${splice[@]}" \
  "${in[@]}" exp/pnorm_multisplice
run train_pnorm_multisplice2.sh $steps/train_pnorm_multisplice2.sh "${simple[@]}" "${pnorm[@]}" "${splice[@]}" \
  --num-jobs-compute-prior 1 "${in[@]}" exp/pnorm_multisplice2
run train_pnorm_accel2.sh $steps/train_pnorm_accel2.sh "${accel[@]}" "${pnorm[@]}" "${in[@]}" exp/pnorm_accel2
run train_multisplice_accel2.sh $steps/train_multisplice_accel2.sh "${accel[@]}" "${few[@]}" "${pnorm[@]}" "${splice[@]}" \
  "${online[@]}" --num-jobs-compute-prior 1 "${in[@]}" exp/multisplice
run train_multisplice_ensemble.sh $steps/train_multisplice_ensemble.sh "${accel[@]}" "${few[@]}" "${pnorm[@]}" "${splice[@]}" \
  --num-jobs-compute-prior 1 --ensemble-size 2 "${in[@]}" exp/multisplice_ensemble
run train_convnet_accel2.sh $steps/train_convnet_accel2.sh "${accel[@]}" "${layers[@]}" --hidden-dim 30 --num-filters1 4 \
  --patch-dim1 4 --pool-size 2 --num-filters2 4 --patch-dim2 2 "${in[@]}" exp/convnet

# Going on from networks
run train_more.sh $steps/train_more.sh --cmd run.pl --num-threads 2 --num-epochs 2 --mix-up 150 \
  exp/pnorm_fast/final.mdl exp/pnorm_fast/egs exp/more
run train_more2.sh $steps/train_more2.sh --cmd run.pl --num-threads 1 --num-jobs-nnet 2 --num-epochs 2 \
  --prior-subset-size 300 --combine-num-threads 1 exp/pnorm_simple2/final.mdl exp/egs2 exp/more2
run retrain_tanh.sh $steps/retrain_tanh.sh --cmd run.pl --num-threads 2 --num-epochs 2 --num-epochs-extra 1 --widen 40 \
  exp/tanh/egs exp/tanh exp/retrained_tanh
run retrain_fast.sh $steps/retrain_fast.sh --cmd run.pl --num-threads 2 --num-jobs-nnet 2 --num-epochs 2 \
  --num-epochs-extra 1 --samples-per-iter 1000 --egs-opts "${egs[*]}" "${in[@]}" exp/retrained_fast
run retrain_simple2.sh $steps/retrain_simple2.sh --cmd run.pl --num-threads 1 --num-jobs-nnet 2 "${few[@]}" \
  --samples-per-iter 1000 --egs-opts "${egs[*]}" --prior-subset-size 300 --combine-num-threads 1 \
  "${in[@]}" exp/retrained_simple2
run update_nnet.sh $steps/update_nnet.sh --cmd run.pl --num-threads 2 --num-jobs-nnet 2 --num-epochs 2 \
  --num-iters-final 2 --samples-per-iter 1000 --egs-opts "${egs[*]}" --learning-rates 0.0008:0.0008:0.0008 \
  "${in[@]}" exp/pnorm_fast exp/updated
chmod -R u+w exp
run train_multilang2.sh $steps/train_multilang2.sh --cmd run.pl --num-threads 1 --num-jobs-nnet "1 1" --num-epochs 2 \
  --mix-up "0 0" --prior-subset-size 300 --num-jobs-compute-prior 1 --combine-num-threads 1 exp/ali exp/egs2 exp/ali exp/egs2 \
  exp/pnorm_simple2/final.mdl exp/multilang
[ -s exp/onto/final.mdl ] || make_layer_onto 2> /dev/null
run create_appended_model.sh $steps/create_appended_model.sh exp/pnorm exp/onto exp/appended
run convert_lda_to_raw.sh $steps/convert_lda_to_raw.sh exp/pnorm_simple2 exp/raw
run convert_nnet1_to_nnet2.sh $steps/convert_nnet1_to_nnet2.sh exp/nnet1 exp/from_nnet1
run dump_bottleneck_features.sh $steps/dump_bottleneck_features.sh --nj 2 data/train data/bottleneck \
  exp/pnorm_bottleneck exp/bottleneck_feats exp/bottleneck_feats

# Alignment, decoding, lattices, sequence training
run align.sh $steps/align.sh --cmd run.pl --nj 2 data/train data/lang exp/pnorm_simple2 exp/aligned
run relabel_egs.sh $steps/relabel_egs.sh --cmd run.pl exp/ali exp/tanh/egs exp/relabelled
run relabel_egs2.sh $steps/relabel_egs2.sh --cmd run.pl exp/ali exp/egs2 exp/relabelled2
run decode.sh $steps/decode.sh --cmd run.pl --nj 2 exp/graph data/test exp/pnorm_simple2/decode
run make_denlats.sh $steps/make_denlats.sh --cmd run.pl --nj 2 data/train data/lang exp/pnorm_simple2 exp/denlats
run get_egs_discriminative2.sh $steps/get_egs_discriminative2.sh --cmd run.pl --samples-per-iter 4000 --num-archives-priors 1 \
  data/train data/lang exp/aligned exp/denlats exp/pnorm_simple2/final.mdl exp/degs
run train_discriminative2.sh $steps/train_discriminative2.sh --cmd run.pl --num-epochs 1 --num-jobs-nnet 1 \
  --num-threads 1 exp/degs exp/smbr
run adjust_priors.sh $steps/adjust_priors.sh --cmd run.pl --iter epoch1 exp/degs exp/smbr
run train_discriminative.sh $steps/train_discriminative.sh --cmd run.pl --num-epochs 1 --num-jobs-nnet 1 --num-threads 1 \
  --samples-per-iter 4000 data/train data/lang exp/aligned exp/denlats exp/pnorm_simple2/final.mdl exp/smbr1
run train_discriminative_multilang2.sh $steps/train_discriminative_multilang2.sh --cmd run.pl --num-epochs 1 \
  --num-jobs-nnet "1 1" --num-threads 1 exp/degs exp/degs exp/smbr_multilang
run get_ivector_id.sh $steps/get_ivector_id.sh $extractor
run check_ivectors_compatible.sh $steps/check_ivectors_compatible.sh $extractor $extractor
run remove_egs.sh $steps/remove_egs.sh exp/old/egs

# Of other folders: online decoding with i-vectors, decoding with Gaussian mixtures, and lattices
run online/nnet2/prepare_online_decoding.sh steps/online/nnet2/prepare_online_decoding.sh --mfcc-config conf/mfcc.conf \
  data/lang $extractor exp/multisplice exp/multisplice_online
run online/nnet2/decode.sh steps/online/nnet2/decode.sh --cmd run.pl --nj 2 exp/graph data/test exp/multisplice_online/decode
run steps/decode.sh steps/decode.sh --cmd run.pl --nj 2 exp/graph data/test exp/ali/decode
# What is made of lattices, those of the decoding before, and of alignments
make_part_of_alignments() { # those of data/train alone
  mkdir -p exp/ali_part; cp exp/ali/{final.mdl,num_jobs} exp/ali_part
  copy-int-vector "ark:gunzip -c exp/ali/ali.1.gz |" ark,t:- | filter_scp.pl data/train/utt2spk |
    gzip > exp/ali_part/ali.1.gz
}
[ -s exp/ali_part/ali.1.gz ] || make_part_of_alignments 2> /dev/null
lmwt=(--min-lmwt 10 --max-lmwt 11)
run scoring/score_kaldi_wer.sh steps/scoring/score_kaldi_wer.sh "${lmwt[@]}" data/test exp/graph exp/ali/decode
run scoring/score_kaldi_cer.sh steps/scoring/score_kaldi_cer.sh "${lmwt[@]}" data/test exp/graph exp/ali/decode
run get_ctm.sh steps/get_ctm.sh "${lmwt[@]}" data/test data/lang exp/ali/decode
run conf/get_ctm_conf.sh steps/conf/get_ctm_conf.sh "${lmwt[@]}" data/test data/lang exp/ali/decode
run get_train_ctm.sh steps/get_train_ctm.sh data/train data/lang exp/ali_part
run get_prons.sh steps/get_prons.sh data/train data/lang exp/ali_part
run oracle_wer.sh steps/oracle_wer.sh data/test data/lang exp/ali/decode
run diagnostic/analyze_lats.sh steps/diagnostic/analyze_lats.sh data/lang exp/ali/decode

# Dictionary and grammar, and lattices with another grammar's costs or those of several systems
make_dict() {
  mkdir -p data/dict
  awk '$1 != "<eps>" { $2 = ""; print }' data/lang/phones/align_lexicon.txt > data/dict/lexicon.txt
  cp data/lang/phones/{optional_silence,extra_questions}.txt data/dict
  cp data/lang/phones/silence.txt data/dict/silence_phones.txt
  cp data/lang/phones/nonsilence.txt data/dict/nonsilence_phones.txt
}
[ -s data/dict/lexicon.txt ] || make_dict
[ -s data/bigram.gz ] || "$root"/utils/train_ngram_lm.py --order 2 data/train/text data/lang data/bigram.gz 2> /dev/null
run prepare_lang.sh utils/prepare_lang.sh data/dict "$(cat data/lang/oov.txt)" data/dict/tmp data/lang_made
run format_lm.sh utils/format_lm.sh data/lang data/bigram.gz data/dict/lexicon.txt data/lang_bigram
run validate_lang.pl utils/validate_lang.pl data/lang_bigram
for mode in 1 2 3 4 5; do
  run lmrescore.sh-$mode steps/lmrescore.sh --cmd run.pl --mode $mode data/lang data/lang_bigram data/test \
    exp/ali/decode exp/ali/decode_mode$mode
done
run decode_combine.sh steps/decode_combine.sh --cmd run.pl --weight1 0.6 data/test data/lang \
  exp/ali/decode exp/ali/decode_mode4 exp/ali/decode_interpolated
if [ -f "$kaldi/local/score_combine.sh" ]; then
  run local/score_combine.sh "$kaldi"/local/score_combine.sh "${lmwt[@]}" --lat-weights 0.3:0.7 data/test exp/graph \
    exp/ali/decode exp/ali/decode_mode4 exp/ali/decode_combined
fi

echo
num_ran=$(cd "$kaldi/steps/nnet2" && for name in *; do grep -l '^ran' "$dir/s5/log/$name.result"; done 2> /dev/null | wc -l)
echo "$num_ran of $(ls "$kaldi"/steps/nnet2 | wc -l) of steps/nnet2 ran, in $dir"
