#!/bin/bash
# Makes the demo's two recordings with a speech synthesizer: 8 kHz mono µ-law WAV, silence cut off at both ends.
# Needs Debian's espeak-ng and sox.
set -euo pipefail
cd "$(dirname "$0")"
for tool in espeak-ng sox; do
	command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install espeak-ng sox" >&2; exit 1; }
done

speak() { # FILE VOICE WORDS-PER-MINUTE TEXT
	# -R: no random dither, so that the same versions make the same bytes.
	espeak-ng -v "$2" -s "$3" --stdout "$4" |
		sox -R -q -t wav - -t wav -r 8000 -c 1 -e u-law "$1" norm -6 silence 1 0.01 0.3% reverse silence 1 0.01 0.3% reverse
	echo "$1: $(sox --i -D "$1") s"
}

speak caller.wav en-us 150 "Hello. I would like to change the delivery address of my order. The number is four, two, seven, one."
speak bot.wav en-gb+f3 150 "Welcome to the demonstration line. One moment please, I will connect you with one of our agents."
