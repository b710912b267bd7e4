"""One module a command. The commands, in the order of the help: their modules and what they do in one sentence."""

PACKAGE = __name__
SECTIONS = {
    "Make and combine templates": {
        "extract": ("extract", "Make templates of the faces in images, and store them."),
        "import": ("embeddings", "Make a store of templates that another program made."),
        "merge": ("merge", "Join stores of different images into one."),
        "split": ("split", "Divide a store's people into those to train on and those to test on."),
        "aggregate": ("aggregate", "Make one template per person out of several."),
        "cluster": ("cluster", "Group templates by similarity, and show the face of each group."),
        "transform": ("transform", "Map or protect the templates of a store, or take an attribute out."),
    },
    "Draw faces from templates": {
        "train": ("train", "Train a decoder, recognizer, classifier or disentangler on a store."),
        "invert": ("invert", "Draw the faces that templates hold."),
        "walk": ("walk", "Draw the faces between two templates, or along an attribute."),
        "fit-confidence": ("confidence", "Fit a map of the parts of a face that a template determines."),
    },
    "Perturb and attack": {
        "fit-mapping": ("mapping", "Fit the linear map that undoes a perturbation of templates."),
        "attack": ("attack", "Change faces so that a recognizer takes them for somebody else."),
    },
    "Measure": {
        "evaluate": ("evaluate", "Measure stores and decoders, with intervals and a report."),
        "models": ("models", "List recognizers and decoders, and where their weights are; or check a model on images."),
    },
}


def summary_of(name: str) -> str:
    """What a command does, in one sentence."""
    return next(section[name][1] for section in SECTIONS.values() if name in section)
