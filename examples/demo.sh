#!/bin/sh
# The main job on a real photograph: sh examples/demo.sh [PHOTO]
# Installs facedecode into .venv (once), makes the template of the face in PHOTO (default: the astronaut Eileen
# Collins, a NASA portrait that scikit-image carries), rebuilds the face from those 128 numbers alone, and leaves
# demo/side-by-side.png.
set -eu
cd "$(dirname "$0")/.."
photo=${1:-}
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
mkdir -p demo
if [ -z "$photo" ]; then
    photo=demo/astronaut.png
    .venv/bin/python -c "import skimage, PIL.Image; PIL.Image.fromarray(skimage.data.astronaut()).save('$photo')"
fi
.venv/bin/facedecode extract "$photo" -o demo/emb --overwrite
.venv/bin/facedecode invert demo/emb -o demo/side-by-side.png --originals --overwrite
echo "look at demo/side-by-side.png"
