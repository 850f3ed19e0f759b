"""What a file is that was taken for a recording, and what would read it."""

import re

_FFMPEG = "use `ffmpeg -v error -i {file} -f wav - |`"

# A pattern of the first bytes, and what they say.
_KINDS = [
    (rb"$", "it is empty"),
    (rb"(?i)\s*<(!doctype|html|head|body|\?xml|!--)", "a web page, as of a download that failed"),
    (rb"version https://git-lfs", "a pointer of Git LFS: `git lfs pull` fetches the file itself"),
    (rb"\x1f\x8b", "compressed: use `gunzip -c {file} |`"),
    (rb"BZh[1-9]", "compressed: use `bunzip2 -c {file} |`"),
    (rb"\xfd7zXZ", "compressed: use `xz -dc {file} |`"),
    (rb"\x28\xb5\x2f\xfd", "compressed: use `zstd -dc {file} |`"),
    (rb"PK\x03\x04", "a ZIP archive: use `unzip -p {file} |`"),
    (rb"....ftyp", "MPEG-4 (AAC, ALAC): " + _FFMPEG),
    (rb"\x30\x26\xb2\x75", "Windows Media: " + _FFMPEG),
    (rb"\x1aE\xdf\xa3", "Matroska or WebM: " + _FFMPEG),
    (rb"RIFF....AVI ", "a film (AVI): " + _FFMPEG),
    (rb"#!AMR", "AMR: " + _FFMPEG),
    (rb"wvpk", "WavPack: " + _FFMPEG),
    (rb"MAC ", "Monkey's Audio: " + _FFMPEG),
    (rb"ID3|\xff[\xe2-\xff]", "MP3 that this libsndfile does not read: " + _FFMPEG),
    (rb"OggS", "Ogg that this libsndfile does not read: " + _FFMPEG),
    (rb"ajkg", "compressed by shorten: use `shorten -x {file} - |`"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\0B", "an object of Kaldi, such as a matrix"),
    (rb"[\t\n\r -~\x80-\xff]{12,}$", "it is text"),
]


def what_it_is(beginning: bytes, file: str) -> str:
    """What a file is that begins so, with the remedy; "" if that is not known.

    Args:
        beginning: its first 512 bytes or more, all of it if it is shorter.
        file: its name, for the remedy.
    """
    if is_shortened(beginning):
        what = "SPHERE that is compressed by shorten: use `sph2pipe -f wav -p {file} |`"
    else:
        kinds = (what for pattern, what in _KINDS if re.match(pattern, beginning, re.DOTALL))
        what = next(kinds, "")
    return what.format(file=file)


def is_shortened(header: bytes) -> bool:
    """Whether this is the header of a NIST SPHERE file that is compressed by shorten."""
    coding = re.search(rb"^sample_coding -s\d+ (\S+)", header, re.MULTILINE)
    return header.startswith(b"NIST_1A") and coding is not None and b"shorten" in coding[1]
