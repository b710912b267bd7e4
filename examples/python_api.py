"""A folder of images → templates, faces, figures: python examples/python_api.py lfw/ (a subfolder for each person)."""

import sys

import matplotlib.pyplot as plt

import facedecode

recognizer = facedecode.load_recognizer()
store = facedecode.extract(sys.argv[1], "emb", recognizer)
faces = facedecode.invert(store.templates()[:6], facedecode.load_decoder("dlib-resnet"), recognizer)
figure, axes = plt.subplots(1, len(faces.pictures), squeeze=False)
for axis, picture, score in zip(axes[0], faces.pictures, faces.scores, strict=True):
    axis.imshow(picture)
    axis.set_title(f"{score:.2f}")
figure.savefig("faces.png")
result = facedecode.evaluate(facedecode.VerificationJob(["emb"], fmrs=[0.2]))
print(store, result.value("eer", {"recognizer": recognizer.name}), sep="\n")
