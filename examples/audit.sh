#!/bin/sh
# An audit in a pipeline: how well does the recognizer do, and how invertible are its templates? Exit 5: a gate missed.
#
#     sh examples/audit.sh IMAGES PEOPLE [OUTPUT]
#
# IMAGES: a folder with one folder of images a person. PEOPLE: the people to judge on (LFW's people format), none of
# whom a decoder was trained on. Leaves OUTPUT/verification/report.html and OUTPUT/security/report.html.
set -eu
images=${1:?usage: sh examples/audit.sh IMAGES PEOPLE [OUTPUT]}
people=${2:?usage: sh examples/audit.sh IMAGES PEOPLE [OUTPUT]}
output=${3:-audit}
missed=0

# A missed gate (5) is remembered, so that the next report is made all the same; any other failure ends the audit.
gated() {
    "$@" || { code=$?; [ "$code" -eq 5 ] || exit "$code"; missed=5; }
}

facedecode extract "$images" -o "$output/emb"

# The recognizer has to be good: at most 1 % equal errors, and at least 85 % of mated pairs accepted at FAR 0.1 %, by
# the lower end of the interval.
gated facedecode evaluate verification "$output/emb" --people "$people" -o "$output/verification" --overwrite \
    --fail-if 'eer > 0.01' --fail-if 'low(tar@far=0.001) < 0.85'

# And its templates must not be a key: in at most a fifth of cases may a decoder's picture pass before another image.
# dlib-resnet's bare templates miss this gate by far (docs/results/security): an audit that finds so should fail.
gated facedecode evaluate security "$output/emb" --people "$people" --decoder dlib-resnet -o "$output/security" \
    --overwrite --fail-if 'type2@fmr=0.001 > 0.2'

exit "$missed"
