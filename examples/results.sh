#!/bin/sh
# The reports of docs/results, one command each: sh examples/results.sh NAME …, after sh examples/results.sh inputs
#
# Needs facedecode on the path, LFW in $LFW (images/, protocol/, faces.csv) and the weights of edgeface-xxs, AlexNet (for
# LPIPS), SqueezeNet and others in $WEIGHTS. Works in the current directory; the reports are written to results/NAME.
# What is there already is left as it is, so that a run that was ended goes on: delete a report to have it made again.
# Those of the paper's figures are made by paper.sh and by the scripts that their commands name.
set -eu
here=$(dirname "$0")
lfw=${LFW:-../shared/data/lfw}
weights=${WEIGHTS:-../shared/weights}
edge=$weights/edgeface_xxs.safetensors
facenet=$weights/facenet_20180408_casia_webface.safetensors
openvino=$weights/openvino_face_reidentification_retail_0095.onnx
squeezenet=$weights/squeezenet1_1_caffe.safetensors
trunk=$weights/torchvision_alexnet_features.safetensors
labels="--labels $lfw/faces.csv"
train_people="--people $lfw/protocol/peopleDevTrain.txt"
train_less_bush="$train_people --exclude George_W_Bush"
test_people="--people $lfw/protocol/peopleDevTest.txt"
of_edgeface="--weights $edge --phi edgeface-xxs"
of_facenet="--weights $facenet --phi facenet-casia-webface"
attackers="--train-people $lfw/protocol/peopleDevTrain.txt --exclude George_W_Bush"
closed_forms="--decoder mean-face=decoders/mean-face --decoder nearest=decoders/nearest --decoder ridge=decoders/ridge"
all_decoders="$closed_forms --decoder shipped=dlib-resnet --decoder edgeface-ridge=decoders/edgeface-ridge"

# A decoder that gradients train. $1: the store. $2: the folder.
network() {
    from=$1 to=$2
    shift 2
    facedecode train "$from" -o "$to" --half --precision bf16 $train_less_bush --phi "squeezenet=$squeezenet" "$@"
}

# All decoders of one recognizer's templates that are there. $1: how their folders' names begin.
decoders_of() {
    for kind in mean-face nearest ridge dfd dfd+id; do
        [ ! -e "decoders/$1$kind" ] || printf ' --decoder %s=decoders/%s' "$kind" "$1$kind"
    done
}

# Stores and files that several reports need; each is made once.
input() {
    [ -e "$1" ] && return
    case $1 in
    emb) facedecode extract "$lfw/images" -o emb ;;
    emb-edgeface) facedecode extract "$lfw/images" -o emb-edgeface --model edgeface-xxs --weights "$edge" ;;
    emb-facenet) facedecode extract "$lfw/images" -o emb-facenet --model facenet-casia-webface --weights "$facenet" ;;
    emb-openvino) facedecode extract "$lfw/images" -o emb-openvino --model "$openvino" --spec openvino-retail-0095 ;;
    decoders/dfd) network emb "$1" --phi dlib-resnet --epochs 1.6 --identity-weight 0 ;;
    decoders/edgeface-dfd) network emb-edgeface "$1" $of_edgeface --epochs 1.6 --identity-weight 0 ;;
    decoders/edgeface-dfd+id) network emb-edgeface "$1" $of_edgeface --epochs 2.8 ;;
    decoders/facenet-dfd) network emb-facenet "$1" $of_facenet --epochs 1.6 --identity-weight 0 ;;
    decoders/facenet-dfd+id) network emb-facenet "$1" $of_facenet --epochs 2.8 ;;
    decoders/facenet-*) facedecode train emb-facenet --architecture "${1#*-}" -o "$1" $train_less_bush ;;
    decoders/edgeface-*) facedecode train emb-edgeface --architecture "${1#*-}" -o "$1" $train_less_bush ;;
    decoders/*) facedecode train emb --architecture "${1#*/}" -o "$1" $train_less_bush ;;
    gender.safetensors) facedecode train emb -o "$1" --kind disentangler $train_less_bush $labels --label gender ;;
    emb-identity) facedecode transform emb -o emb-identity --disentangle gender.safetensors ;;
    key.bin) printf 'the key of docs/results, no secret' > key.bin ;;
    emb-rotation) facedecode transform emb -o emb-rotation --protect rotation --key-file key.bin ;;
    emb-biohash) facedecode transform emb -o emb-biohash --protect biohash --key-file key.bin --center emb \
        --center-people "$lfw/protocol/peopleDevTrain.txt" ;;
    confidence.safetensors) facedecode fit-confidence emb -o "$1" $train_less_bush ;;
    dlib-own.npz) python "$here/../benchmarks/dlib_own_alignment.py" "$lfw/images" "$lfw/protocol/pairs.txt" \
        --jobs 1 -o "$1" ;;
    esac
}

# $1: of the report. $2: the store. Then its decoders and further judges.
reconstruct() {
    name=$1 store=$2
    shift 2
    facedecode evaluate reconstruction "$store" --columns 6 "$@" --lpips-trunk "$trunk" \
        --phi "squeezenet=$squeezenet" $test_people -o "results/$name"
}

make() {
    case $1 in
    inputs)
        for each in emb emb-edgeface decoders/mean-face decoders/nearest decoders/ridge decoders/edgeface-mean-face \
            decoders/edgeface-nearest decoders/edgeface-ridge gender.safetensors emb-identity key.bin emb-rotation \
            emb-biohash confidence.safetensors emb-facenet decoders/facenet-mean-face decoders/facenet-nearest \
            decoders/facenet-ridge emb-openvino; do
            input "$each"
        done
        ;;
    networks) # hours on two cores; reports of security and reconstruction take them in if they are there
        for each in dfd edgeface-dfd edgeface-dfd+id facenet-dfd facenet-dfd+id; do
            input "decoders/$each"
        done
        ;;
    verification-devtest)
        facedecode evaluate verification emb emb-edgeface $test_people $labels --label gender -o "results/$1"
        ;;
    verification-view2)
        facedecode evaluate verification emb emb-edgeface --pairs "$lfw/protocol/pairs.txt" -o "results/$1"
        ;;
    verification-openvino)
        input emb-openvino
        facedecode evaluate verification emb-openvino --pairs "$lfw/protocol/pairs.txt" -o "results/$1"
        ;;
    verification-lfw)
        facedecode evaluate verification emb emb-edgeface -o "results/$1"
        ;;
    security | security-pairs)
        more=
        [ "$1" = security ] || more=$attackers
        facedecode evaluate security emb emb-edgeface --weights "edgeface-xxs=$edge" $all_decoders $test_people $more \
            -o "results/$1"
        ;;
    security-facenet)
        facedecode evaluate security emb-facenet emb emb-edgeface emb-openvino $(decoders_of facenet-) $test_people \
            --weights "facenet-casia-webface=$facenet" --weights "edgeface-xxs=$edge" \
            --weights "onnx:openvino-retail-0095=$openvino" -o "results/$1"
        ;;
    protection-rotation | protection-biohash)
        facedecode evaluate protection emb --scheme "${1#*-}" $test_people $attackers -o "results/$1"
        ;;
    protection-rotation-facenet | protection-biohash-facenet)
        scheme=${1#*-}
        facedecode evaluate protection emb-facenet --scheme "${scheme%-*}" --weights "$facenet" $test_people \
            $attackers -o "results/$1"
        ;;
    reconstruction)
        reconstruct "$1" emb $(decoders_of '') --decoder shipped=dlib-resnet \
            --against emb-edgeface --weights "edgeface-xxs=$edge"
        ;;
    reconstruction-edgeface)
        reconstruct "$1" emb-edgeface $(decoders_of edgeface-) --against emb --weights "edgeface-xxs=$edge"
        ;;
    reconstruction-facenet)
        reconstruct "$1" emb-facenet $(decoders_of facenet-) --against emb --weights "facenet-casia-webface=$facenet"
        ;;
    leakage)
        facedecode evaluate leakage emb $test_people $labels --label gender --directions directions -o "results/$1"
        ;;
    leakage-edgeface)
        facedecode evaluate leakage emb-edgeface $test_people $labels --label gender --weights "$edge" \
            --decoder decoders/edgeface-ridge -o "results/$1"
        ;;
    leakage-facenet)
        facedecode evaluate leakage emb-facenet $test_people $labels --label gender --weights "$facenet" \
            --decoder decoders/facenet-ridge -o "results/$1"
        ;;
    leakage-protected)
        facedecode evaluate leakage emb emb-rotation emb-biohash $test_people $labels --label gender --attribute turn \
            --attribute pitch --attribute mouth --attribute size --attribute brightness --decoder none -o "results/$1"
        ;;
    disentanglement)
        facedecode evaluate leakage emb emb-identity $test_people $labels --label gender --attribute pitch \
            --decoder none -o "results/$1"
        ;;
    disentanglement-verification)
        facedecode evaluate verification plain=emb identity=emb-identity $test_people --far 0.01 --far 0.001 \
            -o "results/$1"
        ;;
    aggregation)
        facedecode evaluate aggregation emb emb-edgeface emb-facenet -o "results/$1"
        ;;
    alignment)
        input dlib-own.npz
        python "$here/alignment_difference.py" emb dlib-own.npz --pairs "$lfw/protocol/pairs.txt" -o "results/$1"
        ;;
    facenet-crops)
        python "$here/facenet_crops.py" emb --weights "$facenet" \
            --pairs "$lfw/protocol/pairs.txt" --crops "0.3 of the mean side" "44 of 182" "14 of 160" \
            --work facenet-crops -o "results/$1"
        ;;
    refinement)
        python "$here/refinement.py" emb --against emb-edgeface --weights "edgeface-xxs=$edge" $test_people \
            --images 300 -o "results/$1"
        ;;
    confidence)
        python "$here/confidence.py" emb --confidence confidence.safetensors $test_people -o "results/$1"
        ;;
    cropped-faces)
        python "$here/../benchmarks/cropped_faces.py" emb-edgeface --weights "$edge" -o "results/$1.json"
        ;;
    cropped-faces-facenet)
        input emb-facenet
        python "$here/../benchmarks/cropped_faces.py" emb-facenet --weights "$facenet" -o "results/$1.json"
        ;;
    expected-templates)
        python "$here/../benchmarks/expected_templates.py" emb $train_less_bush -o "results/$1.json"
        ;;
    *)
        echo "no report '$1'" >&2
        exit 2
        ;;
    esac
}

[ $# -gt 0 ] || { echo "usage: sh examples/results.sh inputs|networks|NAME …" >&2; exit 2; }
for name; do
    [ -f "results/$name/report.json" ] || [ -f "results/$name.json" ] || make "$name"
done
