#!/usr/bin/env python3
"""Make miniatures of the corpora of egs/fisher and egs/aspire, in their layout, by a synthesiser.

Writes into <dir> what the Linguistic Data Consortium delivers, as far as recipes look at it: Fisher
English (LDC2004S13, LDC2005S13: speech; LDC2004T19, LDC2005T19: transcripts and tables of calls),
the HUB5 evaluation of 2000 (LDC2002S09, LDC2002T43), for egs/aspire the development set of that
challenge (LDC2017S21), and a dictionary in the form of cmudict.0.7a.

Names of files and directories, the syntax of transcripts and tables, and the headers of sphere
files are those of the corpora.  Speech is two-channel 8-bit mu-law at 8 kHz; who speaks is one of
espeak-ng's voices, heard in one or two calls.  The same options give the same files.
"""

import io
import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from nnet.cli import argument, log, option, program
from nnet.drivers.espeak import Espeak
from nnet.errors import NgtrainError
from nnet.features.augmentation import add_noise, reverberate
from nnet.io.text import write_lines

SAMPLE_RATE = 8000
DISCS = 7  # of each part of the corpus

DICTIONARY = """
A AH0|A(1) EY1|A. EY1|A.'S EY1 Z|AND AH0 N D|AND(1) AE1 N D|AT AE1 T|BASEBALL B EY1 S B AO2 L
BECAUSE B IH0 K AO1 Z|BROTHER B R AH1 DH ER0|BUT B AH1 T|CATS K AE1 T S|DOGS D AA1 G Z
EXPENSIVE IH0 K S P EH1 N S IH0 V|FAMILY F AE1 M L IY0|FOOD F UW1 D|FOOTBALL F UH1 T B AO2 L
FRIENDS F R EH1 N D Z|FUNNY F AH1 N IY0|GREAT G R EY1 T|HOME HH OW1 M|I AY1|IN IH0 N
IT IH1 T|IT'S IH1 T S|IS IH1 Z|JOYFUL JH OY1 F AH0 L|KNOW N OW1|LIKE L AY1 K|LOVE L AH1 V|M. EH1 M
MOVIES M UW1 V IY0 Z|MUSIC M Y UW1 Z IH0 K|MY M AY1|NEED N IY1 D|OH OW1|ON AA1 N
REALLY R IH1 L IY0|RIGHT R AY1 T|SISTER S IH1 S T ER0|SO S OW1|SUMMER S AH1 M ER0|T. T IY1
THE DH AH0|THE(1) DH IY0|THEY DH EY1|THINK TH IH1 NG K|UH AH1|UH-HUH AH1 HH AH1|UM AH1 M
V. V IY1|WANT W AA1 N T|WAS W AA1 Z|WATCH W AA1 CH|WE W IY1|WEEKEND W IY1 K EH2 N D|WELL W EH1 L
WINTER W IH1 N T ER0|WITH W IH1 DH|YEAH Y AE1|YOU Y UW1|SHOW SH OW1|MEASURE M EH1 ZH ER0
"""

OPENINGS = ["yeah", "oh", "well", "so", "um", "uh", "right", "uh-huh", "[laughter]", ""]
SUBJECTS = ["i", "we", "they", "you", "my brother", "my sister", "my family"]
VERBS = ["like", "love", "need", "want", "really like", "watch", "know"]
OBJECTS = ["movies", "music", "dogs", "cats", "food", "baseball", "football", "a._t._m.", "t._v."]
PLACES = ["at home", "in the summer", "in the winter", "on the weekend", "with my friends", ""]
CLOSINGS = ["but it's expensive", "because it is funny", "and it was great", "i think", "", "", ""]

# Voices that sound the same each time; see egs/digits/local/make_synth_corpus.py.
VOICES = """m1 m2 m3 m5 f1 f4 klatt klatt3 Alex Andy Denis Gene Jacky Mario Michael Reed adam anika
    belinda benjamin caleb david edward iven john linda michel miguel pablo paul quincy steph"""

STM_HEADER = """\
;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
;;
;; CATEGORY "1" "Corpus" ""
;; LABEL "en" "CallHome" "CallHome"
;; LABEL "sw" "Switchboard" "Switchboard"
;;
;; CATEGORY "2" "Sex" ""
;; LABEL "F" "Female" "Female"
;; LABEL "M" "Male" "Male"
;;
;; CATEGORY "3" "Corpus and sex" ""
;; LABEL "en-F" "CallHome, female" "CallHome, female"
;; LABEL "en-M" "CallHome, male" "CallHome, male"
;; LABEL "sw-F" "Switchboard, female" "Switchboard, female"
;; LABEL "sw-M" "Switchboard, male" "Switchboard, male"
;;"""
GLM = """\
;;  File: en20000405_hub5.glm
* name "en20000405_hub5.glm"
* desc "Rules of a miniature"
* format = 'NIST1'
* max_nrules = '2500'
* copy_no_hit = 'T'
* case_sensitive = 'F'
UH-HUH  =>  %BCACK         / [ ] __ [ ] ;; affirmative token
UH      =>  %HESITATION    / [ ] __ [ ] ;; hesitation token
UM      =>  %HESITATION    / [ ] __ [ ] ;; hesitation token
FOOT BALL => FOOTBALL      / [ ] __ [ ]
[T. V.] => [TV]            / [ ] __ [ ]
;;  INPUT_DEPENDENT_APPLICATION = "ctm"
[IT'S]  => [{IT IS / IT'S}] / [ ] __ [ ]"""


@dataclass(frozen=True)
class Person:
    """Somebody with a number, who sounds like one of espeak-ng's voices."""

    number: int
    gender: str
    voice: str
    pitch: float
    rate: float


@dataclass
class Turn:
    """What somebody says in a call, and when (seconds)."""

    side: int
    words: str
    start: float = 0.0
    end: float = 0.0


@dataclass
class Call:
    """A conversation of two people, and the file of its recording."""

    name: str
    recording: Path
    people: tuple[Person, Person]
    seed: tuple[int, ...]
    turns: list[Turn] = field(default_factory=list)


def sentence(rng: np.random.Generator) -> str:
    if rng.random() < 0.1:
        return str(rng.choice(["uh-huh", "yeah", "oh right", "[laughter]"]))
    parts = (OPENINGS, SUBJECTS, VERBS, OBJECTS, PLACES, CLOSINGS)
    return " ".join(word for choice in parts if (word := str(rng.choice(choice))))


def spoken(words: str) -> str:
    """The spelling that the synthesiser understands."""
    return words.replace("a._t._m.", "A T M").replace("t._v.", "T V").replace("uh-huh", "uhhuh")


def converse(call: Call, num_turns: int) -> np.ndarray:
    """Let people talk, and note what and when; the samples (N, 2) on a scale of 1."""
    espeak = Espeak()
    divisor = np.gcd(SAMPLE_RATE, espeak.sample_rate)
    up, down = SAMPLE_RATE // divisor, espeak.sample_rate // divisor
    rng = np.random.default_rng(call.seed)
    heard, time = [], 0.5
    for n in range(num_turns):
        turn = Turn(n % 2, sentence(rng))
        person = call.people[turn.side]
        samples = [rng.normal(0, 0.003, size=400)]
        for word in turn.words.split("[laughter]"):
            if samples[1:]:
                samples.append(rng.normal(0, 0.05, 2000) * (np.sin(np.arange(2000) / 60) > 0))
            if word.strip():
                said = espeak.say(spoken(word), person.voice, person.pitch, person.rate)
                samples.append(resample_poly(said, up, down) / 32768)
        speech = np.concatenate(samples)
        turn.start, turn.end = round(time, 2), round(time + len(speech) / SAMPLE_RATE + 0.1, 2)
        heard.append((turn, speech))
        call.turns.append(turn)
        time = turn.end + rng.uniform(0.2, 0.8)
    samples = rng.normal(0, 0.002, size=(round((time + 1) * SAMPLE_RATE), 2))
    for turn, speech in heard:
        first = round(turn.start * SAMPLE_RATE)
        samples[first : first + len(speech), turn.side] += 0.5 * speech
    return np.clip(samples, -0.99, 0.99)


def write_sphere(path: Path, samples: np.ndarray) -> None:
    """A NIST sphere file of 8-bit mu-law, with a header like those of the corpus."""
    body = io.BytesIO()
    soundfile.write(body, samples, SAMPLE_RATE, format="RAW", subtype="ULAW")
    header = [
        "NIST_1A", "   1024",
        f"conversation_id -s{len(path.stem)} {path.stem}", "database_id -s6 FISHER",
        f"channel_count -i {samples.shape[1]}", f"sample_count -i {len(samples)}",
        f"sample_rate -i {SAMPLE_RATE}", "sample_n_bytes -i 1", "sample_byte_format -s1 1",
        "sample_coding -s4 ulaw", "sample_sig_bits -i 8", "end_head", "",
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(header).encode().ljust(1024) + body.getvalue())


def record(call: Call, num_turns: int, connection) -> None:
    samples = converse(call, num_turns)
    if call.recording.suffix == ".sph":
        write_sphere(call.recording, samples)
    else:
        write_far(call.recording, samples, call.seed)
    connection.send(call.turns)


def record_all(calls: Iterable[Call], num_turns: int) -> None:
    """Record each call in a process of its own: the synthesiser remembers what it said before."""
    context = multiprocessing.get_context("fork")
    for call in calls:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=record, args=(call, num_turns, sender))
        process.start()
        sender.close()
        try:
            call.turns = receiver.recv()
        except EOFError:
            raise NgtrainError(f"{call.recording}: it could not be recorded") from None
        process.join()


def make_people(number: int, rng: np.random.Generator) -> list[Person]:
    people, voices = [], VOICES.split()
    for n in range(number):
        voice = voices[n % len(voices)]
        people.append(
            Person(
                number=1000 + 7 * n,
                gender="f" if voice in ("f1", "f4", "anika", "belinda", "linda", "steph") else "m",
                voice=f"{rng.choice(['en-us', 'en-us-nyc'])}+{voice}",
                pitch=rng.uniform(30, 70),
                rate=rng.uniform(140, 190),
            )
        )
    return people


# Fisher -------------------------------------------------------------------------------------------


def fisher_calls(directory: Path, part: int, per_disc: int, people: list[Person], srand: int):
    """The calls of one part, still silent; of each two, one person is in both."""
    first = {1: 1, 2: 5851}[part]
    disc_name = {
        1: "LDC2004S13/fisher_eng_tr_sp_d{}/audio",
        2: "LDC2005S13/fe_03_p2_sph{}/audio",
    }[part]
    for n in range(DISCS * per_disc):
        name = f"fe_03_{first + n:05d}"
        audio = directory / disc_name.format(n // per_disc + 1) / name[6:9]
        first_person = 3 * (n // 2) + n % 2
        pair = people[first_person], people[first_person + 1]
        yield Call(name, audio / f"{name}.sph", pair, (srand, part, n))


def write_fisher_tables(directory: Path, part: int, calls: list[Call]) -> None:
    """The transcripts of a part of the corpus, and its tables."""
    root = directory / {1: "LDC2004T19", 2: "LDC2005T19"}[part] / f"fe_03_p{part}_tran"
    (root / "doc").mkdir(parents=True, exist_ok=True)
    table = ["CALL_ID,DATE_TIME,TOPICID,SIG_GRADE,CNV_GRADE,APIN,ASX.DL,APHNUM,APHSET,APHTYP,"
             "BPIN,BSX.DL,BPHNUM,BPHSET,BPHTYP"]  # fmt: skip
    discs: dict[Path, list[str]] = {}
    for n, call in enumerate(calls):
        number, (a, b) = call.name[6:], call.people
        disc = call.recording.parents[2]
        table.append(
            f"{number},20021210_13:{n % 60:02d}:46,ENG{n % 40 + 1:02d},3,4,"
            f"{a.number},{a.gender}.a,6035550{n:03d},1,1,{b.number},{b.gender}.a,2155550{n:03d},1,2"
        )
        discs.setdefault(disc, []).append(f"{disc.name} {call.name}.sph {a.gender}{b.gender}")
        transcript = root / "data" / "trans" / number[:3] / f"{call.name}.txt"
        transcript.parent.mkdir(parents=True, exist_ok=True)
        by = {1: "at the LDC", 2: "by BBN/WordWave"}[part]
        lines = [f"# {call.name}.sph", f"# Transcribed {by}", ""]
        for turn in call.turns:
            lines += [f"{turn.start:.2f} {turn.end:.2f} {'AB'[turn.side]}: {marked(turn)}", ""]
        last = call.turns[-1].end
        lines += [f"{last + 0.1:.2f} {last + 0.6:.2f} A: (( ))", ""]
        write_lines(transcript, lines)
    write_lines(root / "doc" / f"fe_03_p{part}_calldata.tbl", table)
    for disc, lines in discs.items():
        path = disc / {1: "filetable.txt", 2: "docs/filetable2.txt"}[part]
        path.parent.mkdir(exist_ok=True)
        write_lines(path, lines)


def marked(turn: Turn) -> str:
    """What the transcriber writes: now and then a word was not understood."""
    if turn.words.endswith("funny"):
        return turn.words.replace("funny", "((funny))")
    return turn.words.replace("[laughter]", "[laugh]")


# The evaluation -----------------------------------------------------------------------------------


def hub5_calls(directory: Path, number: int, people: list[Person], srand: int):
    audio = directory / "LDC2002S09" / "hub5e_00" / "english"
    for n in range(number):
        name = f"en_{4156 + n}" if n % 2 == 0 else f"sw_{4390 + n}"
        pair = people[2 * n % len(people)], people[(2 * n + 1) % len(people)]
        yield Call(name, audio / f"{name}.sph", pair, (srand, 3, n))


def write_hub5_references(directory: Path, calls: list[Call]) -> None:
    """The .pem file beside the speech, the .stm and .glm files of LDC2002T43."""
    pem, stm = [";; pem"], STM_HEADER.splitlines()
    for call in sorted(calls, key=lambda call: call.name):
        for turn in sorted(call.turns, key=lambda turn: (turn.side, turn.start)):
            side, corpus = "AB"[turn.side], call.name[:2]
            sex = call.people[turn.side].gender.upper()
            times = f"{turn.start:.2f} {turn.end:.2f}"
            pem.append(f"{call.name} {side} unknown_speaker {times}")
            label = f"<O,{corpus},{sex},{corpus}-{sex}>"
            words = reference(turn.words)
            stm.append(f"{call.name} {side} {call.name}_{side} {times} {label} {words}".rstrip())
        last = call.turns[-1].end
        pem.append(f"{call.name} A unknown_speaker {last + 0.1:.2f} {last + 0.5:.2f}")
        stm.append(
            f"{call.name} A {call.name}_A {last + 0.1:.2f} {last + 0.5:.2f} <O,{call.name[:2]},F,"
            f"{call.name[:2]}-F> IGNORE_TIME_SEGMENT_IN_SCORING"
        )
    write_lines(directory / "LDC2002S09/hub5e_00/english/hub5e_00.pem", pem)
    references = directory / "LDC2002T43" / "2000_hub5_eng_eval_tr" / "reference"
    references.mkdir(parents=True, exist_ok=True)
    write_lines(references / "hub5e00.english.000405.stm", stm)
    write_lines(references / "en20000405_hub5.glm", GLM.splitlines())


def reference(words: str) -> str:
    """As in the evaluation's references: capitals, optional hesitations, letters apart."""
    text = {"uh": "(%HESITATION)", "um": "(%HESITATION)", "[laughter]": "", "oh": "{ OH / AH }"}
    parts = (text.get(word, word.upper().replace("_", " ")) for word in words.split())
    return " ".join(part for part in parts if part)


# The ASpIRE challenge ----------------------------------------------------------------------------


def write_aspire(directory: Path, people: list[Person], turns: int, srand: int) -> None:
    """Two recordings of one person each, by a microphone far away in a room."""
    root = directory / "LDC2017S21" / "IARPA-ASpIRE-Dev-Sets-v2.0" / "data"
    audio = root / "dev_and_dev_test_audio" / "ASpIRE_single_dev"
    stm_dir = root / "dev_and_dev_test_STM_files"
    for path in audio, stm_dir:
        path.mkdir(parents=True, exist_ok=True)
    lines = []
    for n, person in enumerate(people):
        name = f"single_{0x074F59DE + n:08x}"
        call = Call(name, audio / f"{name}.wav", (person, person), (srand, 4, n))
        record_all([call], turns)
        for turn in sorted(call.turns, key=lambda turn: turn.start):
            words = turn.words.replace("_", " ").replace("[laughter]", "")
            lines.append(f"{name} 1 {name} {turn.start:.3f} {turn.end:.3f} {words}".rstrip())
    write_lines(stm_dir / "dev.stm", lines)
    write_lines(root / "my_english.glm", GLM.splitlines())


def write_far(path: Path, samples: np.ndarray, seed: tuple[int, ...]) -> None:
    """Both sides in one room, as a WAVE file."""
    rng = np.random.default_rng(seed)
    far = reverberate(samples.sum(axis=1), SAMPLE_RATE, 0.4, 6.0, rng)
    far = add_noise(far, 20.0, rng)
    soundfile.write(path, far / max(1.0, np.abs(far).max()), SAMPLE_RATE, subtype="PCM_16")


def write_dictionary(path: Path) -> None:
    entries = [entry for line in DICTIONARY.split("\n") for entry in line.split("|") if entry]
    lines = [";;; # A miniature of the CMU Pronouncing Dictionary"]
    write_lines(path, lines + [entry.replace(" ", "  ", 1) for entry in sorted(entries)])


@program(
    "Usage:  tests/support/miniature_fisher.py [options] <dir>\n"
    " e.g.: tests/support/miniature_fisher.py /tmp/corpora"
)
@argument("dir")
@option("--calls-per-disc", type=int, default=2, help="Calls on each of the discs of Fisher")
@option("--turns", type=int, default=12, help="Utterances in a call")
@option("--eval-calls", type=int, default=4, help="Calls of the evaluation")
@option("--srand", type=int, default=0, help="Seed of all that is drawn")
def main(dir, calls_per_disc, turns, eval_calls, srand):
    directory, rng = Path(dir), np.random.default_rng(srand)
    per_part = 3 * (DISCS * calls_per_disc // 2 + 1)
    rest = make_people(2 * per_part + 2 * eval_calls, rng)
    for part in 1, 2:
        mine, rest = rest[:per_part], rest[per_part:]
        calls = list(fisher_calls(directory, part, calls_per_disc, mine, srand))
        record_all(calls, turns)
        write_fisher_tables(directory, part, calls)
        log.info(f"part {part} of Fisher: {len(calls)} calls")
    calls = list(hub5_calls(directory, eval_calls, rest, srand))
    record_all(calls, turns)
    write_hub5_references(directory, calls)
    write_aspire(directory, rest[:2], turns, srand)
    write_dictionary(directory / "cmudict.0.7a")
    log.info(f"the evaluation: {len(calls)} calls")


if __name__ == "__main__":
    main()
