#!/bin/sh
# The paper's figures on LFW, one command each: sh examples/paper.sh FIGURE, after sh examples/paper.sh stores
#
# Needs facedecode on the path, LFW in $LFW (images/, protocol/, faces.csv) and the weights of edgeface-xxs and
# SqueezeNet in $WEIGHTS. Everything is written to the working directory. docs/paper.md says what came out.
set -eu
here=$(dirname "$0")
lfw=${LFW:-../shared/data/lfw}
weights=${WEIGHTS:-../shared/weights}
edge=$weights/edgeface_xxs.safetensors
squeezenet=$weights/squeezenet1_1_caffe.safetensors
train_people="--people $lfw/protocol/peopleDevTrain.txt"
train_less_bush="$train_people --exclude George_W_Bush"
test_people="--people $lfw/protocol/peopleDevTest.txt"
draw="python $here/side_by_side.py $test_people --side 64 --psnr"

case ${1:?usage: sh examples/paper.sh stores|small|fig01|fig04|fig05|fig06|fig08|fig14|fig17|table2} in
stores)
    facedecode extract "$lfw/images" -o emb
    facedecode extract "$lfw/images" -o emb-edgeface --model edgeface-xxs --weights "$edge"
    facedecode extract "$lfw/images" -o emb-pooled --model dlib-resnet-pooled
    ;;
small) # decoders of Fig. 1, 3 and 5, with equal budgets: first pixels and gradients, then Eq. 2's six terms
    train="facedecode train --image-size 64 --no-mirror --identity-weight 0 --half $train_less_bush"
    pixels="$train --width 0.5 --epochs 2 --perceptual-weight 0 -o small"
    six="$train --seed 1 --batch-size 16 --epochs 0.8 --learning-rate 1e-3 --local-perceptual-weight 0.6"
    $pixels/dlib emb
    $pixels/edge emb-edgeface --weights "$edge"
    $pixels/pooled emb-pooled
    $six emb --start small/dlib -o small/dlib-dlib --phi dlib-resnet
    $six emb --start small/dlib -o small/dlib-edge --phi "edgeface-xxs=$edge"
    $six emb-edgeface --weights "$edge" --start small/edge -o small/edge-dlib --phi dlib-resnet
    $six emb-edgeface --weights "$edge" --start small/edge -o small/edge-edge --phi edgeface-xxs
    $six emb-pooled --start small/pooled -o small/pooled-edge --phi "edgeface-xxs=$edge"
    ;;
fig01) # Fig. 3 is the same with --columns 12
    sh "$0" small
    $draw -o fig01.png --figures fig01.json \
        --row "dlib-resnet, white-box" emb small/dlib-dlib --row "dlib-resnet, phi edgeface" emb small/dlib-edge \
        --row "edgeface-xxs, phi dlib" emb-edgeface small/edge-dlib \
        --row "edgeface-xxs, white-box" emb-edgeface small/edge-edge
    ;;
fig05)
    sh "$0" small
    $draw -o fig05.png --figures fig05.json --row "edgeface-xxs, 512" emb-edgeface small/edge-edge \
        --row "dlib-resnet-pooled, 256" emb-pooled small/pooled-edge --row "dlib-resnet, 128" emb small/dlib-edge
    ;;
fig04)
    for head in softmax arcface; do
        facedecode train emb --kind recognizer --head $head -o $head --min-images 4 --image-size 48 --epochs 14 \
            $train_less_bush
    done
    python "$here/fig04.py" emb --recognizer SoftMax=softmax --recognizer ArcFace=arcface --work fig04 \
        -o results/fig04 --train-people "$lfw/protocol/peopleDevTrain.txt" --exclude George_W_Bush $test_people --epochs 1.5
    ;;
fig06) # and Fig. 7; the decoders have 64 px and half of their channels, and the shipped one's pictures are reduced
    train="facedecode train emb --half --image-size 64 $train_less_bush"
    for kind in mean-face nearest ridge; do $train -o small/$kind --architecture $kind; done
    network="--batch-size 16 --no-mirror --phi squeezenet:4=$squeezenet"
    $train -o small/nbnet --architecture nbnet --width 0.5 --epochs 0.3969 $network
    $train -o small/dfd --architecture dfd --identity-weight 0 --width 0.5 --epochs 0.3969 $network
    $train -o small/nbnet-long --architecture nbnet --start small/nbnet --seed 1 --epochs 0.8929 $network
    python "$here/eigenface_generator.py" emb -o eigenfaces.pt2 $train_less_bush
    facedecode train emb -o small/latent --architecture latent --generator eigenfaces.pt2 --generator-range 0,1 \
        $train_people --samples 1200 --image-size 64
    $draw -o fig06.png --columns 7 --figures fig06.json --row "mean face" emb small/mean-face \
        --row nearest emb small/nearest --row ridge emb small/ridge --row "latent (eigenfaces)" emb small/latent \
        --row "NbNet, 200 steps" emb small/nbnet --row "NbNet, 650 steps" emb small/nbnet-long \
        --row "DFD, 200 steps" emb small/dfd --row "DFD, identity term" emb dlib-resnet
    facedecode evaluate security emb --limit 300 -o report $test_people \
        --decoder mean=small/mean-face --decoder nearest=small/nearest --decoder ridge=small/ridge \
        --decoder latent=small/latent --decoder nbnet=small/nbnet --decoder dfd=small/dfd --decoder shipped=dlib-resnet
    ;;
fig08) # and Fig. 9 to 11; the maps are fitted on people whom the figures do not show
    facedecode fit-mapping --embeddings emb --transform all $train_people
    for figure in rotations shifts scales occlusions; do
        python "$here/appearance.py" emb --figure $figure --decoder dlib-resnet $test_people -o $figure.png
    done
    ;;
fig14) # decoders/edgeface: see the model card in facedecode/weights/dlib-resnet
    facedecode cluster emb -o bush -k 10 --person George_W_Bush
    facedecode cluster emb-edgeface -o bush-edgeface -k 10 --person George_W_Bush --decoder decoders/edgeface
    python "$here/fig14.py" emb --clusters bush -o bush.csv
    python "$here/fig14.py" emb-edgeface --clusters bush-edgeface --decoder decoders/edgeface -o bush-edgeface.csv
    facedecode cluster emb -o devtest --distance-threshold 0.5 --linkage average --decoder none $test_people
    ;;
fig17)
    labels="--labels $lfw/faces.csv"
    facedecode train emb -o gender.safetensors --kind disentangler $train_less_bush $labels --label gender
    facedecode transform emb -o emb-identity --disentangle gender.safetensors
    python "$here/fig17.py" emb --disentangler gender.safetensors --decoder dlib-resnet $test_people $labels \
        --train-people "$lfw/protocol/peopleDevTrain.txt" --judge-store emb-edgeface --judge-weights "$edge" \
        --picture fig17.png -o results/fig17
    for store in emb emb-edgeface; do
        python "$here/disentanglement_tradeoff.py" $store $labels --label gender $test_people -o tradeoff-$store \
            --train-people "$lfw/protocol/peopleDevTrain.txt" --exclude George_W_Bush
    done
    ;;
table2) # a killed run goes on: table2/ keeps the perturbed templates
    python "$here/table2.py" emb emb-edgeface --weights "edgeface-xxs=$edge" \
        --pairs "$lfw/protocol/pairs.txt" --people "$lfw/protocol/people.txt" --work table2 -o results/table2
    ;;
*)
    echo "no figure '$1'" >&2
    exit 2
    ;;
esac
