"""
Text of the library against greedy decoding of the published `whisper` package, with the same weights in float32.

    python -m benchmarks.published_text MANIFEST --model tiny.en [--every N]

The published text is that of `whisper.decode` at temperature 0 without timestamps. It is defined for recordings of at
most 30 s; longer ones are left out, since the published package cuts them at 30 s and the library in a pause.
"""

from __future__ import annotations

import argparse
import warnings

import whisper

import streamer
from benchmarks.arguments import manifest_file, program, whole
from benchmarks.logit_difference import published_network
from streamer.audio.files import read_audio
from streamer.evaluation.manifest import read_manifest
from streamer.library.windows import WINDOW_SAMPLES
from streamer.weights import load, resolve


def main() -> None:
    """Decode every recording with both, and print the differences and their count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=manifest_file)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--every", type=whole(), default=1, help="take every Nth recording")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ResourceWarning)  # the published tokenizer leaves its file open
    ours, theirs = (
        streamer.load(args.model, dtype="float32", device="cpu"),
        published_network(load(resolve(args.model))),
    )
    n = n_equal = n_long = 0
    for row in read_manifest(args.manifest)[:: args.every]:
        if row.language not in ours.languages:
            continue
        samples = read_audio(args.manifest.parent / row.file)
        if len(samples) > WINDOW_SAMPLES:
            n_long += 1
            continue
        options = whisper.DecodingOptions(language=row.language, without_timestamps=True, fp16=False)
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples), theirs.dims.n_mels)
        expected = whisper.decode(theirs, mel, options)
        found = ours.decode(samples, language=row.language)
        n += 1
        n_equal += list(found.tokens) == expected.tokens
        if list(found.tokens) != expected.tokens:
            print(
                f"{row.file}\n  published  {expected.text}\n  library    {ours.tokenizer.decode(found.tokens)}",
                flush=True,
            )
    print(f"{args.model}: {n_equal} of {n} texts equal, {n_long} recordings of more than 30 s left out")


if __name__ == "__main__":
    program(main)
