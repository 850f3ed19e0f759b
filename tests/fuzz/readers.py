"""Every reader of files that may come from others, with small good contents to begin with.

A reader takes the name of a file and reads all of it, as a program would; what it is given may be
anything. It either returns or raises NgtrainError.
"""

import contextlib
import gzip
import io
import os
import tempfile
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np

from nnet.cli import read_config
from nnet.components import component_from_config
from nnet.decoding.arpa import LanguageModel
from nnet.decoding.const_arpa import ConstArpa, build
from nnet.decoding.fst import ARC, FST, ArrayFst
from nnet.decoding.fst_text import compile_fst
from nnet.decoding.lexicon import read_lexicon, usual_topology
from nnet.decoding.nist import MappingRules, WordGraph, read_stm
from nnet.decoding.phone_windows import read_windows, write_windows
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.data_dir import DataDir
from nnet.egs import store as example_store
from nnet.egs.discriminative import DISCRIMINATIVE, DiscriminativeExample
from nnet.egs.minibatches import read_minibatches
from nnet.egs.record import EXAMPLE, NnetExample
from nnet.egs.store import ExampleStore
from nnet.egs.tables import ExampleSummary, ExampleWriter, read_blocks
from nnet.errors import NgtrainError
from nnet.features.foreign import HTK, SPHINX, form_of
from nnet.features.lda import LdaStatistics
from nnet.features.wave import WAVE, Wave
from nnet.hmm.topology import HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency, Leaf, Split, Table, monophone_tree
from nnet.io import random_access, tables
from nnet.io.integer_lists import read_integer_lists
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import archive_entries
from nnet.io.tokens import Reader, read_object, start_writing
from nnet.ivectors.extractor import IvectorExtractor
from nnet.ivectors.extractor_training import EstimationOptions, ExtractorStatistics, estimate
from nnet.ivectors.mixture_training import GmmStatistics, UpdateOptions, update
from nnet.ivectors.mixtures import DiagGmm, FullGmm
from nnet.lattices.conversion import to_compact_lattice
from nnet.lattices.lattice import Lattice
from nnet.lattices.paths import best_paths
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE, naming
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network
from nnet.model.nnet1 import read_nnet1
from nnet.report.file_info import describe
from nnet.trees.building import best_question
from nnet.trees.phones import read_phone_map, read_roots
from nnet.trees.questions import KeyQuestions, Questions
from nnet.trees.statistics import ABSENT, TreeStatistics
from utils.validate_data_dir import all_problems

RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class FuzzedReader:
    """A reader, and what makes its seeds: contents that it reads without error."""

    name: str
    read: Callable[[str], object]
    make_seeds: Callable[[], Iterable[bytes]]

    @property
    def directory(self) -> str:
        """Where inputs that it failed at are kept, below that of the corpus."""
        return self.name.replace(" ", "_").replace(",", "")

    @cached_property
    def seeds(self) -> list[bytes]:
        return list(self.make_seeds())


def exhaust(items: Iterable) -> None:
    for _ in items:
        pass


def written(write: Callable, *binaries: bool) -> list[bytes]:
    """What `write(writer)` writes, in binary and in text form."""
    contents = []
    for binary in binaries or (True, False):
        stream = io.BytesIO()
        write(start_writing(stream, binary))
        contents.append(stream.getvalue())
    return contents


def file_contents(write: Callable[[str], object]) -> bytes:
    """What `write(path)` leaves in the file."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/file"
        write(path)
        return Path(path).read_bytes()


# Objects of the HMM -------------------------------------------------------------------------------


def topology() -> HmmTopology:
    return usual_topology([2, 3], [1])


def chain_topology() -> bytes:
    return (
        b"<Topology> <TopologyEntry> <ForPhones> 1 2 </ForPhones> <State> 0 <ForwardPdfClass> 0 "
        b"<SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State> <State> 1 </State> "
        b"</TopologyEntry> </Topology> "
    )


def trees() -> list[ContextDependency]:
    classes = {phone: topology().num_pdf_classes(phone) for phone in (1, 2, 3)}
    leaves = Table(-1, tuple(map(Leaf, range(5))))
    question = Split(0, (1, 2), Split(2, (3,), leaves, Leaf(5)), Table(1, (None, leaves, Leaf(6))))
    return [monophone_tree([[1], [2], [3]], classes), ContextDependency(3, 1, question)]


def transition_model() -> TransitionModel:
    return TransitionModel.from_tree(trees()[0], topology())


def load_and_use_tree(path: str) -> None:
    tree = ContextDependency.load(path)
    tree.pdfs_of(1, 0)
    written(tree.write)


def tree_statistics() -> TreeStatistics:
    """Of three events, one of them of a phone without neighbours."""
    events = np.array([[0, 1, 2, 0], [1, 1, 2, 0], [0, ABSENT, 3, ABSENT]], np.int32)
    return TreeStatistics(events, 1 + RNG.random((3, 1 + 2 * 4)), 0.01)


def load_and_use_statistics(path: str) -> None:
    """Read statistics, and look for the best question, as building a tree does."""
    statistics = TreeStatistics.load(path)
    for key in range(-1, 3):
        best_question(statistics, key, KeyQuestions([(1,), (1, 2), (0, 3)]))
    written(statistics.write)


def load_and_use_topology(path: str) -> None:
    loaded = HmmTopology.load(path)
    for phone in loaded.phones[:10]:
        loaded.min_length(phone)
    written(loaded.write)


def load_and_use_transition_model(path: str) -> None:
    loaded = TransitionModel.load(path)
    loaded.scaled_log_probs(1.0, 0.1)
    written(loaded.write)


# Networks -----------------------------------------------------------------------------------------

CONFIG = """\
SpliceComponent input-dim=4 left-context=1 right-context=2 const-component-dim=1
FixedAffineComponent matrix=MATRIX
AffineComponentPreconditionedOnline input-dim=6 output-dim=8 alpha=4.0 num-samples-history=2000 \
update-period=4 rank-in=2 rank-out=3 max-change-per-sample=0.075
PnormComponent input-dim=8 output-dim=4 p=2
NormalizeComponent dim=4
AffineComponentPreconditioned input-dim=4 output-dim=4 alpha=0.1 learning-rate=0.01
SigmoidComponent dim=4
DropoutComponent dim=4 dropout-scale=0.5 dropout-proportion=0.1
TanhComponent dim=4
AdditiveNoiseComponent dim=4 stddev=0.1
SpliceComponent input-dim=4 context=-2:0:1
AffineComponent input-dim=12 output-dim=24 param-stddev=0.1 bias-stddev=1
RectifiedLinearComponent dim=24
AffineComponent input-dim=24 output-dim=NUM_PDFS
SoftmaxComponent dim=NUM_PDFS
"""
OTHER_COMPONENTS = """\
SpliceMaxComponent dim=6 context=-2:0:1
BlockAffineComponent input-dim=6 output-dim=8 num-blocks=2
DctComponent dim=8 dct-dim=4 reorder=true
DctComponent dim=8 dct-dim=4 reorder=false dct-keep-dim=3
PermuteComponent dim=6
ScaleComponent dim=6 scale=0.5
SoftHingeComponent dim=6
Convolutional1dComponent input-dim=6 output-dim=12 patch-dim=2 patch-step=1 patch-stride=3
MaxpoolingComponent input-dim=12 output-dim=6 pool-size=2 pool-stride=3
MaxoutComponent input-dim=6 output-dim=3
PowerComponent dim=3 power=0.5
BlockAffineComponentPreconditioned input-dim=3 output-dim=6 num-blocks=3 alpha=4
LogSoftmaxComponent dim=6
"""
NNET1 = b"""<Nnet>
<Splice> 6 2
[ -1 0 1 ]
<!EndOfComponent>
<AddShift> 6 6
<LearnRateCoef> 0 [ 1 2 3 4 5 6 ]
<!EndOfComponent>
<Rescale> 6 6
[ 1 2 3 4 5 6 ]
<AffineTransform> 2 6
<LearnRateCoef> 1 <BiasLearnRateCoef> 1 <MaxNorm> 0
[ 0.5 0 0 0 0 1
1 2 3 4 5 6 ]
[ 0.1 0.2 ]
<!EndOfComponent>
<Sigmoid> 2 2
<!EndOfComponent>
<Softmax> 2 2
</Nnet>
"""
OLD_COMPONENTS = b"""<Nnet> <NumComponents> 3 <Components>
<SpliceComponent> <InputDim> 2 <LeftContext> 1 <RightContext> 1 <ConstComponentDim> 0 \
</SpliceComponent>
<AffineComponentPreconditionedOnline> <LearningRate> 0.01 <LinearParams> [ 1 2 3 4 5 6
 1 2 3 4 5 6 ]
<BiasParams> [ 1 2 ]
<Rank> 3 <UpdatePeriod> 1 <NumSamplesHistory> 2000 <Alpha> 4 <MaxChangePerSample> 0.1 \
</AffineComponentPreconditionedOnline>
<SumGroupComponent> <Sizes> [ 1 1 ]
<SumGroupComponent>
</Components> </Nnet> """


def network() -> Network:
    with tempfile.NamedTemporaryFile() as file:
        matrix = RNG.standard_normal((6, 14)).astype(np.float32)
        file.write(written(lambda writer: writer.matrix(matrix), True)[0])
        file.flush()
        text = CONFIG.replace("MATRIX", file.name)
        text = text.replace("NUM_PDFS", str(transition_model().num_pdfs))
        rng = np.random.default_rng(0)
        return Network(component_from_config(line, rng) for line in text.splitlines())


def network_seeds() -> list[bytes]:
    others = Network.from_config(OTHER_COMPONENTS.splitlines(), np.random.default_rng(0))
    return [*written(network().write), *written(others.write), OLD_COMPONENTS]


def load_nnet1(path: str) -> None:
    written(read_object(path, read_nnet1).write)


def acoustic_model() -> AcousticModel:
    num_pdfs = transition_model().num_pdfs
    return AcousticModel(transition_model(), network(), np.full(num_pdfs, 1 / num_pdfs))


def load_network(path: str) -> None:
    loaded = read_object(path, Network.read)
    loaded.info()
    written(loaded.write)


def load_model(path: str) -> None:
    loaded = AcousticModel.load(path)
    loaded.info()
    written(loaded.write)


def load_network_config(path: str) -> None:
    """Dimensions in a config are the user's own wish, so that they may ask for too much memory."""
    with contextlib.suppress(MemoryError):
        Network.load_config(path, np.random.default_rng(0))


def config_seeds() -> list[bytes]:
    text = CONFIG.replace("NUM_PDFS", "10").replace("FixedAffineComponent matrix=MATRIX\n", "")
    text = text.replace("input-dim=6", "input-dim=13")
    groups = text + "SumGroupComponent sizes=1:2:3:4\n"
    others = OTHER_COMPONENTS.encode()
    return [text.encode(), groups.encode(), others, b"# none\n\nSigmoidComponent dim=3\n"]


# Numbers ------------------------------------------------------------------------------------------


def any_of(*reads: Callable[[str], object]) -> Callable[[str], None]:
    """All of these readers in turn; refuses what all of them refuse."""

    def read(path: str) -> None:
        errors = []
        for attempt in reads:
            try:
                attempt(path)
            except NgtrainError as error:
                errors.append(error)
        if len(errors) == len(reads):
            raise errors[0]

    return read


def archive_of(holder: tables.Holder) -> Callable[[str], None]:
    """Read all of an archive."""

    def read(path: str) -> None:
        with tables.sequential_table(f"ark:{path}", holder) as table:
            exhaust(table)

    return read


def archive_seeds(holder: tables.Holder, *values) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        contents = []
        for options in "ark", "ark,t":

            def write(path: str, options=options) -> None:
                with tables.table_writer(f"{options}:{path}", holder) as table:
                    for number, value in enumerate(values):
                        table.write(f"utt{number}", value)

            contents.append(file_contents(write))
        return contents

    return seeds


MATRIX_32 = RNG.standard_normal((3, 4)).astype(np.float32)
MATRIX_64 = RNG.standard_normal((9, 3))


def compressed(layout: str) -> CompressedMatrix:
    return CompressedMatrix.compress(MATRIX_64.astype(np.float32), layout)


def posteriors() -> list:
    single = [[(n, 1.0)] for n in range(5)]
    return [single, [[(1, 0.25), (2, 0.75)], [], *single]]


def read_packed(path: str) -> None:
    def parse(reader: Reader) -> None:
        reader.symmetric_matrix()
        reader.integers()

    read_object(path, parse)


def packed_seeds() -> list[bytes]:
    def write(writer) -> None:
        writer.symmetric_matrix(MATRIX_64.T @ MATRIX_64)
        writer.integers([1, 2, 300])

    return written(write)


def lda_statistics() -> LdaStatistics:
    statistics = LdaStatistics(3, 2)
    statistics.zero += 1
    return statistics


# Mixtures and extractors of i-vectors -------------------------------------------------------------


def mixture() -> DiagGmm:
    return DiagGmm.of(np.array([0.25, 0.75]), RNG.standard_normal((2, 3)), 1 + RNG.random((2, 3)))


def mixture_statistics() -> GmmStatistics:
    statistics = GmmStatistics(2, 3)
    statistics.add_frames(RNG.standard_normal((40, 3)), RNG.random((2, 40)))
    return statistics


def extractor() -> IvectorExtractor:
    return IvectorExtractor.from_mixture(FullGmm.of_diagonal(mixture()), 2, RNG)


def extractor_statistics() -> ExtractorStatistics:
    statistics = ExtractorStatistics(2, 3, 2)
    for _ in range(5):
        frames, posteriors = RNG.standard_normal((9, 3)), RNG.random((2, 9))
        statistics.accumulate(extractor(), frames, posteriors)
    return statistics


def load_and_update_mixture(path: str) -> None:
    update(mixture(), GmmStatistics.load(path), UpdateOptions())


def load_and_estimate_extractor(path: str) -> None:
    options = EstimationOptions(gaussian_min_count=0.0)
    estimate(extractor(), ExtractorStatistics.load(path), options)


def load_and_use_extractor(path: str) -> None:
    loaded = IvectorExtractor.load(path)
    statistics = ExtractorStatistics(*loaded.projections.shape)
    frames = RNG.standard_normal((4, loaded.feature_dim))
    statistics.accumulate(loaded, frames, RNG.random((len(loaded), 4)))


# Examples -----------------------------------------------------------------------------------------


def examples(spk_dim: int) -> list[NnetExample]:
    made = []
    for i, layout in enumerate(("CM", "CM2", "CM3")):
        rows = CompressedMatrix.compress(RNG.standard_normal((8 + i, 3)), layout)
        for labels in [[(i, 1.0)], [(2, 1.0)]], [[(i, 0.25), (2, 0.5)], []]:
            made.append(NnetExample(labels, rows, 3, np.ones(spk_dim, np.float32)))
    return made * 2


def write_examples(path: str, options: str = "ark", spk_dim: int = 0) -> None:
    with tables.table_writer(f"{options}:{path}", EXAMPLE) as table:
        for number, example in enumerate(examples(spk_dim)):
            table.write(f"utt-{number}", example)


def example_seeds() -> list[bytes]:
    return [
        file_contents(lambda path, o=options, d=spk_dim: write_examples(path, o, d))
        for options, spk_dim in (("ark", 0), ("ark", 2), ("ark,t", 2))
    ]


def read_examples(specifier: str) -> None:
    summary = ExampleSummary()
    for block in read_blocks(specifier):
        summary.add(block)
        summary.lines(None)
    rng = np.random.default_rng(0)
    exhaust(read_minibatches(specifier, 4, 1, 1, frame="random", buffer_size=8, rng=rng))


def write_store(path: str) -> None:
    """With chunks that are small, so that most of the file is what has to be right."""
    with tempfile.NamedTemporaryFile() as archive, ExampleWriter(f"h5:{path}") as writer:
        write_examples(archive.name)
        exhaust(map(writer.write, read_blocks(f"ark:{archive.name}")))


def store_seeds() -> list[bytes]:
    with mock.patch.object(example_store, "_CHUNK", 512):
        return [file_contents(write_store)]


def read_store(path: str) -> None:
    """Read a store as it is, and as if its checksum, which anybody can put right, were right."""
    with contextlib.suppress(NgtrainError):
        read_examples(f"h5:{path}")
    with mock.patch.object(ExampleStore, "_check_sum"):
        read_examples(f"h5:{path}")


# Graphs -------------------------------------------------------------------------------------------


def fst() -> ArrayFst:
    arcs = np.array([(1, 2, 0.5, 1), (0, 0, 1.5, 0), (3, 0, 0.0, 2)], ARC)
    finals = np.array([np.inf, 0.25, 0.0], np.float32)
    return ArrayFst.from_arcs(0, finals, np.array([0, 0, 1]), arcs)


def load_fst(path: str) -> None:
    """And hand it to the library in C++, which may not crash over it."""
    import kaldifst

    loaded = ArrayFst.load(path).to_kaldifst()
    kaldifst.arcsort(loaded, "olabel")
    kaldifst.connect(loaded)
    ArrayFst.from_kaldifst(loaded)


def fst_seeds() -> list[bytes]:
    return [file_contents(lambda path, c=const: fst().save(path, const=c)) for const in (0, 1)]


def read_fst_table(path: str) -> None:
    with tables.open_input(path) as stream:
        for _, graph in archive_entries(stream, FST):
            graph.to_kaldifst()


LATTICE_TEXT = b"""
0 1 1 2 0.5,1.5
0 2 3 1 0.25,-2
1 2 2 0 1,0
1 0,3.5
2

"""


def lattice() -> Lattice:
    return read_object_of(LATTICE, LATTICE_TEXT)


def read_object_of(holder: tables.Holder, contents: bytes):
    """Read one object of a table."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(contents)
        file.flush()
        with tables.open_input(file.name) as stream:
            return holder.read(stream)


def read_lattices(path: str) -> None:
    """And find the best paths, which walks over all."""
    with tables.sequential_table(f"ark:{path}", COMPACT_LATTICE) as table:
        for key, loaded in table:
            with naming(key):  # as programs do; a lattice may have a cycle
                exhaust(best_paths(loaded, 3))


def lattice_seeds() -> list[bytes]:
    compact = to_compact_lattice(lattice())
    return [
        *archive_seeds(LATTICE, lattice(), lattice())(),
        *archive_seeds(COMPACT_LATTICE, compact, compact)(),
    ]


def discriminative_example() -> DiscriminativeExample:
    rows = CompressedMatrix.compress(RNG.standard_normal((5, 3)))
    alignment = np.array([1, 2], np.int32)
    return DiscriminativeExample(1.0, alignment, to_compact_lattice(lattice()), rows, 2)


# Recordings ---------------------------------------------------------------------------------------


def read_wave(path: str) -> None:
    with tables.open_input(path) as stream:
        assert WAVE.read(stream).duration >= 0


def audio_seeds() -> list[bytes]:
    import soundfile

    samples = (1000 * RNG.standard_normal((400, 2))).astype(np.int16)
    contents = []
    for file_format, subtype in (
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("FLAC", "PCM_16")),
        *(("NIST", "PCM_16"), ("WAVEX", "PCM_24"), ("AIFF", "PCM_16")),
        *(("RF64", "PCM_16"), ("WAV", "IMA_ADPCM"), ("AU", "ULAW"), ("OGG", "VORBIS")),
    ):
        file = io.BytesIO()
        soundfile.write(file, samples, 8000, format=file_format, subtype=subtype)
        contents.append(file.getvalue())
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(8000)
        recording.writeframes(samples.tobytes())
    streamed = file.getvalue()
    contents.append(streamed[:4] + b"\xff\xff\xff\xff" + streamed[8:])
    return contents


def wave_archive_seeds() -> list[bytes]:
    recording = Wave(np.ones((1, 100), np.float32), 8000)
    return archive_seeds(WAVE, recording, recording)()[:1]


def htk_seeds() -> list[bytes]:
    form = form_of("htk", "mfcc", use_energy=True)
    return archive_seeds(form, MATRIX_32, MATRIX_32[:1])()[:1]


def sphinx_seeds() -> list[bytes]:
    features = RNG.standard_normal((3, 13)).astype(">f4")
    return [b"utt1 " + np.array(features.size, ">i4").tobytes() + features.tobytes()]


# Text ---------------------------------------------------------------------------------------------

SYMBOLS = b"<eps> 0\n<s> 1\n</s> 2\n#0 3\none 4\ntwo 5\nthree 6\n"
ARPA = b"""\
\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-1.2\t</s>
-99\t<s>\t-0.3
-0.5\tone\t-0.2
-0.7\ttwo\t-0.1
-0.9\tthree\t-0.4

\\2-grams:
-0.3\t<s> one\t-0.1
-0.4\tone two\t0.2
-0.5\ttwo three
-0.6\tthree </s>

\\3-grams:
-0.1\t<s> one two

\\end\\
"""
LEXICON = b"one w ah n\ntwo t uw\n<UNK> spn\nthree th r iy\n"
LEXICONP = b"one 1.0 w ah n\none 0.5 w o n\ntwo 0.25 t uw\n"
GLM = b""";; a file of rules
* name "rules"
;; INPUT_DEPENDENT_APPLICATION = ".*"
[uh] => [%HESITATION] / [ ] __ [ ] ;; hesitation
gonna => { going to / gonna } / [ ] __ [ ]
'CAUSE => BECAUSE
"""
STM = b""";; comment
file A speaker 0.0 1.5 <o,f0> hello {a / b c / @} (uh) wor-
file B speaker 1.5 2.5 IGNORE_TIME_SEGMENT_IN_SCORING
"""
PROGRAM_CONFIG = b"# options\n--minibatch-size=128  # of frames\n--srand=3\n\n--left-context=4\n"
DATA_DIR = b"""\
== utt2spk
a-1 a
a-2 a
b-1 b
== text
a-1 one two
a-2
b-1 three
== segments
a-1 rec1 0.0 1.5
a-2 rec1 1.5 3.25
b-1 rec2 0 -1
== feats.scp
a-1 feats.ark:5
a-2 feats.ark:100[0:5]
b-1 copy-feats x - |
== utt2num_frames
a-1 150
a-2 175
b-1 12
== utt2dur
a-1 1.5
a-2 1.75
b-1 0.12
== wav.scp
rec1 /no/such/file.wav
rec2 sph2pipe x |
== frame_shift
0.01
"""


def word_symbols() -> SymbolTable:
    pairs = (line.split() for line in SYMBOLS.decode().splitlines())
    return SymbolTable((symbol, int(number)) for symbol, number in pairs)


def load_arpa(path: str) -> None:
    LanguageModel.load(path, word_symbols()).grammar()


def load_const_arpa(path: str) -> None:
    """And ask for words after all histories of two, which follows its steps."""
    loaded = ConstArpa.load(path)
    for history in product(range(8), repeat=2):
        for word in range(8):
            loaded.step(history, word)


def const_arpa_seeds() -> list[bytes]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(ARPA)
        file.flush()
        model = LanguageModel.load(file.name, word_symbols())
    return written(build(model, 1, 2, -1).write, True)


def load_glm(path: str) -> None:
    MappingRules.load(path, ("stm", "ref")).apply("uh gonna 'cause")


def load_references(path: str) -> None:
    for segment in read_stm(path):
        WordGraph(segment.text)


def load_data_dir(path: str) -> None:
    """A directory whose files stand one after the other in one: `== NAME` begins each."""
    with tempfile.TemporaryDirectory() as directory:
        name = ""
        for line in Path(path).read_bytes().splitlines(keepends=True):
            if line.startswith(b"== "):
                words = line[3:].decode(errors="replace").split()
                name = words[0].replace("/", "_") if words else ""
                continue
            if name and "\0" not in name and len(name) < 100 and name not in (".", ".."):
                with open(f"{directory}/{name}", "ab") as file:
                    file.write(line)
        all_problems(Path(directory))
        data = DataDir.read(directory)
        chosen = data.select(list(data["utt2spk"])[:2])
        chosen.rename(lambda utterance: f"x-{utterance}")
        chosen.write(f"{directory}/copy")


def read_script(path: str) -> None:
    with tables.sequential_table(f"scp,p:{path}", tables.FEATURES) as table:
        exhaust(table)
    with random_access.random_access_table(f"scp:{path}", tables.FEATURES) as table:
        for key, _ in tables.read_script(path):
            table.get(key)


def script_seeds() -> list[bytes]:
    """Lines that point into a file of matrices, which stays where it is."""
    directory = tempfile.mkdtemp(prefix="fuzz")
    path, script = f"{directory}/ark", f"{directory}/scp"
    with tables.table_writer(f"ark,scp:{path},{script}", tables.MATRIX) as table:
        table.write("utt1", MATRIX_32)
        table.write("utt2", MATRIX_32)
    text = Path(script).read_text()
    lines = text.splitlines()
    ranges = f"{lines[0]}[0:1]\n{lines[1]}[:,1:2]\n"
    return [text.encode(), ranges.encode(), f"utt1 touch {directory}/x |\nutt2 -\n".encode()]


def read_specifier(path: str) -> None:
    """The contents of the file are the specifier."""
    text = os.fsdecode(Path(path).read_bytes())
    tables.is_wspecifier(text)
    tables.is_rspecifier(text)
    with tables.sequential_table(text, tables.MATRIX) as table:
        exhaust(table)


def specifier_seeds() -> list[bytes]:
    return [
        *(b"ark:/no/such/file", b"scp,p:/no/such/file", b"ark,s,cs,t:gunzip -c x.gz |"),
        *(b"ark,bg:/no/such/file:12", b"ark:-", b"scp:/no/such/file[0:1]", b"h5:/no/file"),
    ]


def describe_file(path: str) -> None:
    exhaust(describe(path))


def files_to_describe() -> list[bytes]:
    """One of each kind that nnet-file-info looks into, and some of them compressed."""
    matrix = MATRIX_32
    kinds = [
        *written(acoustic_model().write),
        *written(network().write),
        *written(trees()[1].write),
        *written(topology().write),
        *written(lambda writer: writer.matrix(matrix)),
        *(b"key " + form for form in written(lambda writer: writer.vector(matrix[0]))),
        *(b"key " + form for form in written(lambda writer: writer.matrix(matrix))),
        b"key 1 2 3\nkey2 4 5\n",
    ]
    return [*kinds, *map(gzip.compress, kinds)]


READERS = [
    FuzzedReader("file info", describe_file, files_to_describe),
    FuzzedReader("model", load_model, lambda: written(acoustic_model().write)),
    FuzzedReader("network", load_network, network_seeds),
    FuzzedReader("nnet1", load_nnet1, lambda: [NNET1]),
    FuzzedReader("network config", load_network_config, config_seeds),
    FuzzedReader(
        "transition model",
        load_and_use_transition_model,
        lambda: written(transition_model().write),
    ),
    FuzzedReader(
        "tree", load_and_use_tree, lambda: [form for t in trees() for form in written(t.write)]
    ),
    FuzzedReader(
        "tree statistics", load_and_use_statistics, lambda: written(tree_statistics().write)
    ),
    FuzzedReader(
        "questions",
        Questions.load,
        lambda: written(Questions({-1: KeyQuestions([(0,)]), 1: KeyQuestions([(1, 2)])}).write),
    ),
    FuzzedReader("roots", read_roots, lambda: [b"shared split 1 2\nnot-shared not-split 3\n"]),
    FuzzedReader("phone map", read_phone_map, lambda: [b"1 1\n2 1\n3 2\n"]),
    FuzzedReader(
        "topology", load_and_use_topology, lambda: [*written(topology().write), chain_topology()]
    ),
    FuzzedReader(
        "matrices",
        any_of(archive_of(tables.MATRIX), archive_of(tables.FEATURES)),
        archive_seeds(tables.MATRIX, MATRIX_32, MATRIX_64, np.zeros((0, 0), np.float32)),
    ),
    FuzzedReader(
        "compressed matrices",
        any_of(archive_of(tables.COMPRESSED_MATRIX), archive_of(tables.FLOAT_MATRIX)),
        archive_seeds(tables.COMPRESSED_MATRIX, *map(compressed, ("CM", "CM2", "CM3"))),
    ),
    FuzzedReader(
        "vectors",
        any_of(archive_of(tables.VECTOR), archive_of(tables.FLOAT_VECTOR)),
        archive_seeds(tables.VECTOR, MATRIX_32[0], MATRIX_64[0], np.zeros(0)),
    ),
    FuzzedReader("packed matrices", read_packed, packed_seeds),
    FuzzedReader(
        "alignments",
        archive_of(tables.INTEGERS),
        archive_seeds(tables.INTEGERS, np.arange(9), np.zeros(0, np.int32)),
    ),
    FuzzedReader(
        "posteriors",
        archive_of(tables.POSTERIOR),
        archive_seeds(tables.POSTERIOR, *posteriors()),
    ),
    FuzzedReader(
        "numbers, words",
        any_of(*map(archive_of, (tables.INTEGER, tables.REAL, tables.TOKEN, tables.TOKENS))),
        lambda: [
            *archive_seeds(tables.REAL, 1.5, -2.0)(),
            *archive_seeds(tables.INTEGER, 1, -2)(),
            *archive_seeds(tables.TOKENS, ["one", "two"], [])(),
        ],
    ),
    FuzzedReader(
        "LDA statistics",
        lambda path: read_object(path, LdaStatistics.read),
        lambda: written(lda_statistics().write),
    ),
    FuzzedReader("Gaussian mixture", DiagGmm.load, lambda: written(mixture().write)),
    FuzzedReader(
        "Gaussian mixture with full covariances",
        FullGmm.load,
        lambda: written(FullGmm.of_diagonal(mixture()).write),
    ),
    FuzzedReader(
        "statistics of a mixture",
        load_and_update_mixture,
        lambda: written(mixture_statistics().write),
    ),
    FuzzedReader("i-vector extractor", load_and_use_extractor, lambda: written(extractor().write)),
    FuzzedReader(
        "statistics of an extractor",
        load_and_estimate_extractor,
        lambda: written(extractor_statistics().write),
    ),
    FuzzedReader(
        "lists of lists of integers",
        lambda path: exhaust(tables.sequential_table(f"ark:{path}", tables.INTEGER_LISTS)),
        lambda: [b"a 3 1 ; ; 7 ; \nb \n"],
    ),
    FuzzedReader(
        "examples",
        lambda path: read_examples(f"ark:{path}"),
        example_seeds,
    ),
    FuzzedReader(
        "examples in HDF5",
        read_store,
        store_seeds,
    ),
    FuzzedReader("transducer", load_fst, fst_seeds),
    FuzzedReader("transducers", read_fst_table, archive_seeds(FST, fst(), fst())),
    FuzzedReader("transducer in text", compile_fst, lambda: [b"0 1 5 6 0.5\n1 0 7 0\n1 0.25\n"]),
    FuzzedReader("lattices", read_lattices, lattice_seeds),
    FuzzedReader(
        "discriminative examples",
        archive_of(DISCRIMINATIVE),
        archive_seeds(DISCRIMINATIVE, discriminative_example()),
    ),
    FuzzedReader(
        "phones in context",
        lambda path: read_object(path, read_windows),
        lambda: written(lambda writer: write_windows(writer, [[], [0], [-4], [1, 2, 3]])),
    ),
    FuzzedReader("features of HTK", archive_of(HTK), htk_seeds),
    FuzzedReader("features of Sphinx", archive_of(SPHINX), sphinx_seeds),
    FuzzedReader("language model in one array", load_const_arpa, const_arpa_seeds),
    FuzzedReader("recording", read_wave, audio_seeds),
    FuzzedReader("recordings", archive_of(WAVE), wave_archive_seeds),
    FuzzedReader("symbols", SymbolTable.load, lambda: [SYMBOLS]),
    FuzzedReader("lists of integers", read_integer_lists, lambda: [b"1 2 3\n4\n\n5 6\n"]),
    FuzzedReader("lexicon", lambda path: read_lexicon(path, False), lambda: [LEXICON]),
    FuzzedReader(
        "lexicon of probabilities", lambda path: read_lexicon(path, True), lambda: [LEXICONP]
    ),
    FuzzedReader("language model", load_arpa, lambda: [ARPA]),
    FuzzedReader("mapping rules", load_glm, lambda: [GLM]),
    FuzzedReader("references", load_references, lambda: [STM]),
    FuzzedReader("program config", read_config, lambda: [PROGRAM_CONFIG]),
    FuzzedReader("data directory", load_data_dir, lambda: [DATA_DIR]),
    FuzzedReader("script", read_script, script_seeds),
    FuzzedReader("rspecifier", read_specifier, specifier_seeds),
]
